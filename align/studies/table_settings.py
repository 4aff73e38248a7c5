"""What a table of a study gathers, as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from align.errors import ConfigError, did_you_mean, shorten


@dataclass(frozen=True)
class RowDifference:
    """A column that has the difference of every row to one of them, in pairs of the same seed and prompt."""

    column: str
    row: str


@dataclass(frozen=True)
class TableSettings:
    """What a table gathers: a row per step, the figures of a JSON file that each of them has written."""

    rows: dict[str, str]
    """A step by the title of its row; behind a colon the place in its file, as in `gold:models.policy`."""
    columns: dict[str, str]
    """The place of a figure by the title of its column; behind `metrics:` the last value a run has logged,
    behind `record:` what doing the step took: `seconds`, or `cpu_seconds` of its processes."""
    file: str = "results.json"
    """Name of the file in the folder of each step."""
    digits: int = 2
    """Behind the point."""
    differences: dict[str, RowDifference] = field(default_factory=dict)
    """Further columns, by title."""


def table_of(given: Any, where: str) -> TableSettings:
    """Return the table that a step says. Raises ConfigError naming what is missing, unknown or contradictory."""
    found = mapping(given, where, ("rows", "columns", "file", "digits", "differences"))
    for key in ("rows", "columns"):
        texts = mapping(found.get(key), f"{where}.{key}")
        if not texts or not all(isinstance(text, str) for text in texts.values()):
            raise ConfigError(f"{where}.{key}: expected texts by title")
    digits = found.get("digits", 2)
    if not isinstance(digits, int) or not 0 <= digits <= 10:
        raise ConfigError(f"{where}.digits: expected 0 to 10, got {shorten(digits, 40)}")
    differences = _differences(found.get("differences", {}), f"{where}.differences", found)
    file = str(found.get("file", TableSettings.file))
    return TableSettings(found["rows"], found["columns"], file, digits, differences)


def _differences(given: Any, where: str, table: Mapping[str, Any]) -> dict[str, RowDifference]:
    found = {}
    for title, one in mapping(given, where).items():
        values = mapping(one, f"{where}.{title}", ("column", "row"))
        for key, known in (("column", table["columns"]), ("row", table["rows"])):
            named = values.get(key)
            if named not in known:
                guess = did_you_mean(str(named), known)
                raise ConfigError(f"{where}.{title}.{key}: expected one of the table's {key}s, got {named!r}{guess}")
        if title in table["columns"]:
            raise ConfigError(f"{where}.{title}: the table has a column of that title")
        found[title] = RowDifference(values["column"], values["row"])
    return found


def mapping(given: Any, where: str, known: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a mapping by text. Raises ConfigError for anything else, and for names that are not known."""
    if not isinstance(given, dict):
        raise ConfigError(f"{where}: expected `name: value`, got {shorten(given, 60)}")
    if known and (unknown := [str(key) for key in given if key not in known]):
        raise ConfigError(
            f"{where}: unknown {unknown[0]!r}{did_you_mean(unknown[0], known)} (one of {', '.join(known)})"
        )
    return {str(key): value for key, value in given.items()}
