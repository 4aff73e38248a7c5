"""A source read from its shards as it is needed: windows of rows, encoded like all others, in an order of their own."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from align.data.batching import derive
from align.data.chunks import CHUNK, encode_chunks
from align.data.drop_report import Report, RowError
from align.data.encoded_groups import GroupTable
from align.data.gathering import GatheredGroups
from align.data.located import Located
from align.data.read_row import ReadRow
from align.data.shards import Shard
from align.data.sound import sound
from align.data.source import Source
from align.data.splits import Division
from align.data.views import View
from align.encoding.encoder import Encoder
from align.errors import DataError
from align.records import Example

SAMPLE = 1000
"""First rows, which stand for the training split where something has to be known of it before it is read."""

Rows = list[tuple[int, Located | RowError]]
"""What was read, with the number of its shard."""


class StreamPlace(NamedTuple):
    """A row of an epoch: its shard, counted in the order of the epoch, and the rows of that shard before it."""

    shard: int = 0
    row: int = 0


class Window(NamedTuple):
    """The groups of some rows that follow each other in an epoch."""

    first: StreamPlace
    table: GroupTable
    order: Sequence[int]
    """In which the groups are trained on."""
    report: Report


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is read."""

    window: int
    """Rows that are shuffled together; 0 keeps the order."""
    seed: int
    num_proc: int | None
    """Processes that tokenise."""
    refuse_new_labels: bool
    """Whether a label that the first rows do not have is a fault; it is none where those to use are named."""


@dataclass
class Stream:
    """The training rows of a source."""

    source: Source
    shards: Sequence[Shard]
    division: Division
    view: View
    encoder: Encoder
    settings: StreamSettings
    attributes: tuple[str, ...] | None = None
    """Columns of all scores; the sample decides them."""
    _readings: dict[int, ReadRow] = field(default_factory=dict)
    _layouts: dict[str, str] = field(default_factory=dict)

    def sample(self) -> tuple[GroupTable, Report]:
        """Return the groups of the first rows. Raises DataError where there are none, or most rows are at fault."""
        rows = self._first()
        gathered, report = self._encoded(rows)
        self.source.note_others(report)
        report.check(self.source.path)
        if not report.kept:
            name = type(self.view).__name__
            raise DataError(f"data.path {self.source.path}: no {name} in the first {len(rows)} rows: {report}")
        report.notes.append(f"the first {len(rows)} rows, which name the labels; others are read when they are needed")
        self.attributes = gathered.attributes
        return gathered.table(), report

    def examples(self, split: str) -> list[Example]:
        """Return the examples of a split that the source ships, or those of the first training rows."""
        if split == "train":
            return list(self._examples(self._first(), Report()))
        beside = Division(self.source, self.division.splits, train=False)
        return [example for name, example in beside if name == split]

    def windows(self, epoch: int, start: StreamPlace) -> Iterator[Window]:
        """Yield the windows of an epoch from a place on at which one begins; each depends on its place and the seed."""
        order = self._drawn(len(self.shards), epoch, "shards")
        for rows, first in self._rows(order, start, self.settings.window or CHUNK):
            gathered, report = self._encoded(sorted(rows, key=lambda located: located[0]))
            yield Window(first, gathered.table(self.attributes), self._order(epoch, first, report.kept), report)

    def _first(self) -> Rows:
        return next((rows for rows, _ in self._rows(range(len(self.shards)), StreamPlace(), SAMPLE)), [])

    def _order(self, epoch: int, first: StreamPlace, count: int) -> Sequence[int]:
        """Return the order of a window's groups: for all rows in one window that of a source that is not streamed."""
        return self._drawn(count, epoch, *(() if first == StreamPlace() else first))

    def _drawn(self, count: int, *parts: object) -> Sequence[int]:
        """Return an order that depends on the seed and the parts, or the usual one where nothing is shuffled."""
        rng = np.random.default_rng(derive(self.settings.seed, *parts))
        order: list[int] = rng.permutation(np.arange(count)).tolist()
        return order if self.settings.window else range(count)

    def _rows(self, order: Sequence[int], start: StreamPlace, size: int) -> Iterator[tuple[Rows, StreamPlace]]:
        """Yield as many rows at a time as a window has, with the place of the first."""
        rows, first = Rows(), start
        for place in range(start.shard, len(order)):
            begin = start.row if place == start.shard else 0
            for number, located in enumerate(self.shards[order[place]].rows(begin), begin + 1):
                rows.append((order[place], located))
                if len(rows) == size:
                    yield rows, first
                    rows, first = Rows(), StreamPlace(place, number)
        if rows:
            yield rows, first

    def _encoded(self, rows: Rows) -> tuple[GatheredGroups, Report]:
        report = Report()
        gathered = GatheredGroups(self.encoder.truncation)
        examples = (e for split, e in self.division.training(self._examples(rows, report), report) if split == "train")
        groups = (group for example in examples for group in self.view.made(example, report))
        parts = iter(lambda: list(itertools.islice(groups, CHUNK)), [])
        chunks = (gathered.chunk("train", part) for part in parts)
        for encoded in encode_chunks(chunks, self.encoder, self.settings.num_proc):
            gathered.write(encoded)
        gathered.count(report)
        new = set(gathered.attributes).difference(self.attributes or gathered.attributes)
        if new and self.settings.refuse_new_labels:
            raise DataError(
                f"data.path {self.source.path}: the label {min(new)!r} has no value in the first {SAMPLE} rows, which "
                "decide the columns of a stream: name the labels to use with data.attributes"
            )
        return gathered, report

    def _examples(self, rows: Rows, report: Report) -> Iterator[Example]:
        return sound(self._parsed(rows, report), report)

    def _parsed(self, rows: Rows, report: Report) -> Iterator[Example]:
        for shard, part in itertools.groupby(rows, key=lambda located: located[0]):
            for located in self.source.counted((one for _, one in part), report):
                reading = self._reading(shard)
                report.why = report.why or reading.why
                yield from self.source.read_row(reading, located, report)

    def _reading(self, shard: int) -> ReadRow:
        """Return how the rows of a shard are read, which its first ones decide."""
        if shard not in self._readings:
            found = (one for one in self.shards[shard].rows() if isinstance(one, Located))
            reading = self.source.reading(list(itertools.islice(found, self.source.peek)))
            self.source.check_layout(self._layouts, self.shards[shard].identity.name, reading)
            if reading.gather:
                raise DataError(
                    f"data.path {self.source.path}: the layout {reading.layout!r} makes an example of rows anywhere in "
                    "a file: set data.streaming false"
                )
            self._readings[shard] = reading
        return self._readings[shard]


def as_state(report: Report) -> dict[str, object]:
    """Return a report as a checkpoint holds it."""
    return {**dataclasses.asdict(report), "dropped": dict(report.dropped), "layouts": dict(report.layouts)}
