"""The files every run of `align fit` writes for its reports, whatever it logs to: a JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from align.errors import DataError
from align.strict_json import json_text, number

FINISHED = "finished.json"
"""In the folder of a run that has come to its end."""
METRICS = "metrics.jsonl"
"""Logged numbers: `step`, and a number by name, null for NaN."""
TABLES = "samples.jsonl"
"""Tables of texts, most of prompts and completions: `step`, `name`, `columns`, `rows`."""
ROLLOUTS = "rollouts"
"""The table of samples that a step trained on."""

ASKED = "asked"
"""The one text among numbers: how the policy was asked."""


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Append a line; what a kill left of the line before it is taken away first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(-1, 2) if file.tell() else None
        if file.read(1) not in (b"", b"\n"):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json_text(row, ascii_only=True).encode() + b"\n")


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield step and content of every whole line. Raises DataError for a line that is none of ours."""
    if not path.is_file():
        return
    for place, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            row = json.loads(line)
            yield int(row.pop("step")), row
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}, line {place}: expected an object with step ({error})") from error


def read_numbers(path: Path) -> dict[str, dict[int, float]]:
    """Return the numbers of a file by name and step; one written twice counts as it was written last."""
    found: dict[str, dict[int, float]] = {}
    for step, row in read(path):
        row.pop(ASKED, None)
        for name, value in row.items():
            if not isinstance(value, int | float | None):
                raise DataError(f"{path}, step {step}: {name} is {value!r}, expected a number")
            found.setdefault(str(name), {})[step] = number(value)
    return found


def read_asked(path: Path) -> str:
    """Return how the policy was asked at the last step that says so."""
    return str(next((row[ASKED] for _, row in reversed([*read(path)]) if row.get(ASKED)), ""))


def read_table(path: Path, name: str) -> list[tuple[str, str]]:
    """Return the rows of the last table of a name, which are prompts and completions."""
    found = read_columns(path, name)
    return [] if found is None else [(row[0], row[1]) for row in found.rows]


class LoggedTable(NamedTuple):
    """A table of texts as it was logged."""

    step: int
    columns: list[str]
    rows: list[list[str]]


def read_columns(path: Path, name: str) -> LoggedTable | None:
    """Return the last table of a name, None where there is none."""
    found = [(step, row) for step, row in read(path) if row.get("name") == name]
    if not found:
        return None
    step, row = found[-1]
    return LoggedTable(step, list(map(str, row.get("columns") or ())), [list(map(str, r)) for r in row["rows"] or ()])
