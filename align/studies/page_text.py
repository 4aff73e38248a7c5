"""Markdown of a study's page: rows of its tables, figures with their intervals, and where they stand in a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import DataError
from align.strict_json import json_text

Cell = Mapping[str, Any] | None
"""A figure as `table.json` has it: mean, low, high, values of seeds and how many seeds there are; None for none."""


def row(cells: Sequence[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [row(head), "|---" * len(head) + "|", *map(row, rows)]


def interval(found: Cell, digits: int = 2) -> str:
    """Return a mean and its interval, a dash where there is none; how many seeds have it where not all do.

    What is over seeds alone has no interval where there is one seed.
    """
    if found is None or found["mean"] is None:
        return "-"
    if len(found["values"]) == 1 and found.get("over") == "seeds":
        return mean(found, digits)
    short = "" if len(found["values"]) == found["seeds"] else f" ({len(found['values'])} of {found['seeds']} seeds)"
    return f"{found['mean']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]{short}"


def mean(found: Cell, digits: int = 2) -> str:
    """Return a mean alone, a dash where there is none."""
    return "-" if found is None or found["mean"] is None else f"{found['mean']:.{digits}f}"


def put(page: Path, marks: tuple[str, str], text: str) -> None:
    """Put text between the two marks of a page. Raises DataError for a page without them, in this order."""
    before, first, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, second, after = rest.partition(marks[1])
    if not first or not second:
        raise DataError(f"{page}: expected the marks {marks[0]!r} and {marks[1]!r}, each on a line of its own")
    page.write_text(f"{before}{marks[0]}\n\n{text}\n\n{marks[1]}{after}", encoding="utf-8")


@dataclass(frozen=True)
class StudyPage:
    """What a study writes of itself: its figures, a picture, and tables between the marks of a page."""

    tables: tuple[str, ...]
    """Names of the tables it reads, in the order in which their folders are given."""
    marks: tuple[str, str]
    """Between which the text stands."""
    text: Callable[[Mapping[str, Any]], str]
    """Makes the text of the rows of all tables, by their names."""
    picture: Callable[[Mapping[str, Any], Path], None]
    """Draws them into a file."""
    name: str
    """The picture's, such as `lengths.png`."""

    def write(self, words: Sequence[str]) -> None:
        """Write figures.json and the picture into the first folder, print the text, and put it into a page, if named.

        Args:
            words: The folder to write, the folder of every table, and perhaps a page.

        Raises DataError where there are too few or too many words.
        """
        if not 0 <= len(words) - 1 - len(self.tables) <= 1:
            raise DataError(f"expected OUT, folders of {', '.join(self.tables)} and perhaps a page, got {list(words)}")
        out, *given = map(Path, words)
        found = {name: folder / "table.json" for name, folder in zip(self.tables, given, strict=False)}
        figures = {name: json.loads(path.read_text(encoding="utf-8"))["rows"] for name, path in found.items()}
        out.mkdir(parents=True, exist_ok=True)
        (out / "figures.json").write_text(json_text(figures, indent=1), encoding="utf-8")
        self.picture(figures, out / self.name)
        for page in given[len(self.tables) :]:
            put(page, self.marks, self.text(figures))
        print(self.text(figures))
