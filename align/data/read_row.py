"""How the rows of a file are read, once its first ones have said what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from align.data.drop_report import Report
from align.data.located import Gather, Located
from align.records import Example


class ReadRow(NamedTuple):
    """How the rows of a file are read."""

    examples: Callable[[Located, Report], Iterable[Example]]
    layout: str = ""
    """What the columns are taken for."""
    why: str = ""
    """What that was recognised by."""
    gather: Gather | None = None
    """What puts the rows of a file together, where several of them make an example."""
