"""A row of data as it was read, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from align.data.drop_report import RowError

Row = dict[str, Any]


class Located(NamedTuple):
    """A row and where it stands, as `file, line n` or `dataset, row n`."""

    where: str
    row: Row


Gather = Callable[[Iterable[Located]], Iterable[Located | RowError]]
"""Puts together the rows of a file of which several make an example."""
