"""A row of data as it was read, and where it stands."""

from __future__ import annotations

from typing import Any, NamedTuple

Row = dict[str, Any]


class Located(NamedTuple):
    """A row and where it stands, as `file, line n` or `dataset, row n`."""

    where: str
    row: Row
