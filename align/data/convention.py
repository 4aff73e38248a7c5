"""A layout of rows as an object: what it is known by, and how it is read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from align.data.column_layouts import PROMPTS, is_number, is_verdict
from align.data.drop_report import LeftOut
from align.data.located import Gather
from align.data.readers import Located, Row
from align.data.row_parts import EVERYWHERE, RowParts


@dataclass(frozen=True, eq=False)
class Convention:
    """A layout of rows: what it is known by, which columns it reads, and what it makes of a row."""

    name: str
    needs: Sequence[Sequence[str]]
    """Columns that must be there; of each group one is enough."""
    read: Callable[[Located], RowParts | Iterable[RowParts | LeftOut]]
    """What it makes of a row, or several of them, with what it leaves out."""
    uses: Sequence[str] = ()
    """Columns it reads where they are there."""
    fits: Callable[[Row], bool] = lambda row: True
    """What else must hold of a row."""
    numbers: Sequence[str] = ()
    """Columns it reads where they hold a number."""
    words: Sequence[str] = ()
    """Columns it reads where they hold a word for a label."""
    inside: frozenset[str] = frozenset()
    """Keys that it reads of the objects in its columns, beside those that are read everywhere."""
    gather: Gather | None = None
    """Puts together the rows of a file of which several make an example; what it makes follows another convention."""
    by_file: bool = False
    """A row follows it only where most of its file do: elsewhere it would be an odd row."""

    def matches(self, row: Row) -> bool:
        """Return whether a row follows the convention."""
        return all(any(name in row for name in group) for group in self.needs) and self.fits(row)

    def why(self, row: Row) -> str:
        """Return which columns it was recognised by."""
        return f"rows have {', '.join(_there(self, _filled(row)))}"

    def columns(self, row: Row) -> frozenset[str]:
        """Return the columns that are read in a row: of several names for one thing only the first that is there."""
        held = [n for n in self.numbers if n in row and is_number(row[n])]
        return _columns(self, _filled(row), (*held, *(n for n in self.words if is_verdict(row.get(n)))))


def _filled(row: Row) -> tuple[str, ...]:
    return tuple(name for name, value in row.items() if value is not None)


@functools.lru_cache(maxsize=1024)
def _columns(convention: Convention, filled: tuple[str, ...], held: tuple[str, ...]) -> frozenset[str]:
    """Return the columns that are read; most rows of a file have the same filled."""
    return EVERYWHERE.union(_there(convention, filled), convention.uses, held)


def _there(convention: Convention, filled: tuple[str, ...]) -> list[str]:
    """Return the needed columns that are there, with the one that holds the prompt."""
    first = [next((name for name in group if name in filled), "") for group in (*convention.needs, PROMPTS)]
    return [n for n in dict.fromkeys(first) if n]


def all_of(*names: str) -> list[list[str]]:
    """Return needs that are each met by one column only."""
    return [[name] for name in names]
