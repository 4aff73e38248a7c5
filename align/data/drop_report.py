"""What became of the rows of a split, and the ways in which a row can be unusable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from align.errors import DataError, shorten


class DroppedRow(Exception):
    """A row that is well formed and cannot be used; it is counted under the message."""


class LeftOut(DroppedRow):
    """A row that a method leaves out by its nature, such as the rejected half of unpaired rows: no sign of a fault."""


class RowError(DataError):
    """A row that cannot be read: it is dropped and counted under `reason`, which is the same for all rows like it."""

    def __init__(self, where: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{where}: {shorten(detail or reason, 300)}")
        self.where, self.reason = where, reason


@dataclass
class Report:
    """What became of the rows of one split: how many were read and kept, how many dropped and why, with some places."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    ids: dict[str, list[str]] = field(default_factory=dict)
    odd: int = 0
    """Dropped rows that a right file of this kind would not have."""
    first: str = ""
    """What was wrong with the first of them, and where."""
    layouts: Counter[str] = field(default_factory=Counter)
    """Rows by the convention they were read by."""
    why: str = ""
    """What the convention was recognised by."""
    unused: dict[str, str] = field(default_factory=dict)
    """Columns that nothing reads, each with the first place that holds something there."""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What a user should know of the groups kept: what they lack, and how many are cut."""

    def drop(self, reason: str, row: str, *, odd: bool = False) -> None:
        """Count a dropped row and remember the first five places of each reason."""
        self.dropped[reason] += 1
        self.odd += odd
        if odd and not self.first:
            self.first = f"{row}: {reason}"
        if len(self.ids.setdefault(reason, [])) < 5:
            self.ids[reason].append(row)

    def refuse(self, error: DroppedRow | RowError, where: str, place: str) -> None:
        """Count a row that could not be read; `where` is its file and line, `place` the same within the data."""
        reason = error.reason if isinstance(error, RowError) else str(error)
        if not self.first and not isinstance(error, LeftOut):
            self.first = str(error) if isinstance(error, RowError) else f"{where}: {error}"
        self.drop(reason, place, odd=not isinstance(error, LeftOut))

    def add(self, later: Report) -> None:
        """Count also the drops of a later step over the same rows."""
        self.dropped.update(later.dropped)
        for reason, places in later.ids.items():
            known = self.ids.setdefault(reason, [])
            known.extend(places[: 5 - len(known)])
        self.odd += later.odd
        self.first = self.first or later.first

    def go_on(self, later: Report) -> None:
        """Count also what became of the rows behind these."""
        self.read += later.read
        self.kept += later.kept
        self.add(later)
        self.layouts.update(later.layouts)
        self.why = self.why or later.why
        self.unused = {**later.unused, **self.unused}
        self.notes += [note for note in later.notes if note not in self.notes]

    def check(self, path: str) -> None:
        """Raise DataError where more than half of the rows are at fault."""
        if 2 * self.odd > self.read:
            raise DataError(
                f"data.path {path}: {self.odd} of {self.read} rows cannot be used, the first: {self.first} ({self}): "
                "mend the file, or name its columns with data.columns"
            )

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
        parts = [f"{self.read} rows, {self.kept} groups kept", f"dropped: {reasons}" if reasons else "none dropped"]
        counted = [f"{name} ({count})" for name, count in self.layouts.most_common()]
        layout = [f"read as {', '.join(counted if len(counted) > 1 else self.layouts)}"] if counted else []
        unused = [f"columns not used: {', '.join(self.unused)}"] if self.unused else []
        return "; ".join([", ".join(parts), *layout, *unused, *self.notes])
