"""The optimiser steps of a stream: cut from its windows one after the other, with the place at which each ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
from torch.utils.data import IterableDataset

from align.data.batching import Batching
from align.data.drop_report import Report
from align.data.encoded_groups import EncodedGroups, GroupTable
from align.data.loader import Collated
from align.data.order import DistributedShard, StepOrder
from align.data.positions import Positions, oversized
from align.data.steps import tell_lines
from align.data.stream import Stream, StreamPlace, Window, as_state
from align.errors import AlignError, DataError
from align.records import CandidateBatch, RowLayout


class Position(NamedTuple):
    """Where the next step of an epoch begins."""

    first: StreamPlace = StreamPlace()
    """Where the window begins that holds its first group, or the last group of the step before."""
    taken: int = 0
    """Groups of that window that are in steps before."""
    steps: int = 0
    """Steps before."""
    report: Mapping[str, Any] = MappingProxyType({})
    """What became of the rows before that window."""


class Handed(NamedTuple):
    """This process's part of a step, and where the next one begins."""

    batches: list[CandidateBatch]
    after: Position


@dataclass(frozen=True)
class StepSettings:
    """What decides the steps, and the part of each that this process computes."""

    batching: Batching
    step: int
    """Groups of a step."""
    share: DistributedShard
    others: bool
    """Whether every response is also read under another prompt of its step."""
    attributes: Sequence[str]
    """Columns of the scores."""
    layout: RowLayout
    """How the model lays batches out."""


@dataclass
class _Part:
    """What is left of a window."""

    first: StreamPlace
    taken: int
    left: int
    before: Mapping[str, Any]


class _Pool:
    """Groups that are read and in no step yet."""

    def __init__(self, attributes: Sequence[str]) -> None:
        self._attributes = attributes
        self._table: pa.Table | None = None
        self._order: list[int] = []
        self._parts: list[_Part] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, window: Window, taken: int, before: Mapping[str, Any]) -> None:
        """Put the groups of a window behind those that are left; the first `taken` are in steps already."""
        if not window.report.kept:
            return
        left = [] if self._table is None else [self._table.take(pa.array(self._order, pa.int64()))]
        older = len(self._order)
        self._table = pa.concat_tables([*left, window.table.rows.data.table])
        self._order = [*range(older), *(older + place for place in window.order[taken:])]
        self._parts.append(_Part(window.first, taken, len(window.order) - taken, before))
        rows = datasets.Dataset(self._table, fingerprint="pool")
        self.groups = EncodedGroups([GroupTable(rows, window.table.attributes)], [1.0], self._attributes)

    def take(self, count: int, steps: int) -> tuple[list[int], Position]:
        """Return the next groups, and where those behind them begin; `steps` are taken with them."""
        step, self._order = self._order[:count], self._order[count:]
        while count > self._parts[0].left:
            count -= self._parts.pop(0).left
        part = self._parts[0]
        part.taken, part.left = part.taken + count, part.left - count
        return step, Position(part.first, part.taken, steps, part.before)


class StreamSteps(IterableDataset[Any]):
    """Yields what this process computes of each step of an epoch, and in the end the report on all its rows.

    Every process encodes every row, those that others train on too: only its tokens tell whether a row is kept, so
    which groups a step has; how long it is, so which process takes it and in how many parts the step is computed; and
    how many tokens count, which all processes divide their losses by. An error of ours is yielded too: a worker of a
    loader would hand it over as a text of many lines.
    """

    def __init__(self, stream: Stream, settings: StepSettings) -> None:
        self.stream, self.settings = stream, settings
        self.epoch, self.start = 0, Position()
        self._told = False

    def __iter__(self) -> Iterator[Handed | Report | AlignError]:
        try:
            yield from self._handed()
        except AlignError as error:
            yield error

    def _handed(self) -> Iterator[Handed | Report]:
        pool, report = _Pool(self.settings.attributes), report_of(self.start.report)
        number, path = self.start.steps, self.stream.source.path
        for window in self.stream.windows(self.epoch, self.start.first):
            before = as_state(report)
            report.go_on(window.report)
            report.check(path)
            pool.add(window, self.start.taken if window.first == self.start.first else 0, before)
            while len(pool) >= self._needed:
                number += 1
                yield self._step(pool, self.settings.step, number)
        if len(pool):
            yield self._step(pool, len(pool), number + 1)
        elif not report.kept:
            raise DataError(f"data.path {path}: no row is left to train on: {report}")
        yield report

    @property
    def _needed(self) -> int:
        """Return how many groups there have to be to cut a step; where each is read with another, one is never left."""
        return self.settings.step + 2 * self.settings.others

    def _step(self, pool: _Pool, count: int, number: int) -> Handed:
        given = self.settings
        reading: dict[str, Any] = {"share": given.share, "others": given.others, "layout": given.layout}
        order = StepOrder(pool.groups, given.batching, 0, given.step, **reading)
        groups, after = pool.take(count, number)
        self._tell(order.positions(groups))
        return Handed(Collated(pool.groups)[order.plans(groups)], after)

    def _tell(self, positions: Positions) -> None:
        """Say of the first step with a group above the budget that there is one."""
        if not self._told and (told := oversized(positions, self.settings.batching.tokens)):
            self._told = True
            tell_lines([f"train, a step of the stream: {told}"])


def report_of(state: Mapping[str, Any]) -> Report:
    """Return the report that a checkpoint holds."""
    counters = {name: Counter(state.get(name, {})) for name in ("dropped", "layouts")}
    return Report(**{**state, **counters})
