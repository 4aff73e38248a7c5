"""Encoded groups as they come, and what is to be told of them: in memory, or where a subclass puts them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import datasets
import numpy as np
import pyarrow as pa

from align.data.chunks import SCHEMA, Chunk, Encoded, aligned
from align.data.drop_report import Report
from align.data.encoded_groups import GroupTable
from align.encoding.truncation import Truncation
from align.errors import DataError
from align.records import Example

SPLITS = {"val": "validation"}
"""Splits whose name in words is another."""
CUT_SHARE = 0.05
"""More groups than this share have to be cut before it is a warning."""
SCORES = SCHEMA.get_field_index("scores")


class Gathering(ABC):
    """Takes encoded chunks in; the attributes they name are the columns of all their scores in the end."""

    def __init__(self, limits: Truncation) -> None:
        """Begin; `limits` are those that groups are cut to."""
        self._limits = limits
        self._dropped, self._notes, self._cut = Report(), Counter[str](), Counter[str]()
        self._lengths = [np.zeros(0, dtype=np.int64)]
        self._named: dict[str, bool] = {}
        self._widths: list[tuple[str, ...]] = []

    def chunk(self, split: str, examples: Sequence[Example]) -> Chunk:
        """Return examples to be encoded, in the columns that are known so far."""
        name_attributes(self._named, examples)
        return Chunk(split, examples, tuple(self._named))

    def write(self, encoded: Encoded) -> None:
        """Take in what became of a chunk."""
        for row in encoded.dropped:
            self._dropped.drop(row.reason, row.id)
        self._notes.update(encoded.notes)
        self._cut.update(encoded.cut)
        self._lengths.append(np.asarray(encoded.lengths, dtype=np.int64))
        if encoded.batch.num_rows:
            self._widths.append(encoded.columns)
            self._put(encoded.batch)

    @abstractmethod
    def _put(self, batch: pa.RecordBatch) -> None: ...

    @property
    def attributes(self) -> tuple[str, ...]:
        """Return the attributes that have a label in some group."""
        return tuple(name for name, known in self._named.items() if known)

    def count(self, report: Report) -> None:
        """Add to the report what became of the groups."""
        lengths = np.concatenate(self._lengths)
        report.add(self._dropped)
        report.kept = len(lengths)
        if report.kept:
            report.warnings += [f"{count} of {len(lengths)} groups {note}" for note, count in self._notes.most_common()]
            report.warnings += cuts_told(lengths, self._cut, self._limits)


class GatheredGroups(Gathering):
    """Groups in memory."""

    def __init__(self, limits: Truncation) -> None:
        super().__init__(limits)
        self._batches: list[pa.RecordBatch] = []

    def _put(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)

    def table(self, attributes: Sequence[str] | None = None) -> GroupTable:
        """Return the groups, their scores in the columns of all attributes, or of those that are given."""
        wanted = self.attributes if attributes is None else tuple(attributes)
        batches = [in_columns(b, own, wanted) for b, own in zip(self._batches, self._widths, strict=True)]
        return GroupTable(datasets.Dataset(pa.Table.from_batches(batches, SCHEMA), fingerprint="gathered"), wanted)


def in_columns(batch: pa.RecordBatch, columns: Sequence[str], attributes: Sequence[str]) -> pa.RecordBatch:
    """Return groups with their scores in other columns."""
    if tuple(columns) == tuple(attributes):
        return batch
    scores = [aligned(rows, columns, attributes) for rows in batch.column(SCORES).to_pylist()]
    return batch.set_column(SCORES, SCHEMA.field(SCORES), pa.array(scores, SCHEMA.types[SCORES]))


def refuse_none(report: Report, split: str = "train") -> None:
    """Raise DataError where no group of a split is left."""
    if not report.kept:
        where = "to train on" if split == "train" else f"in the {SPLITS.get(split, split)} split"
        raise DataError(f"no row is left {where}: {report}")


def cuts_told(lengths: np.ndarray, cut: Mapping[str, int], limits: Truncation) -> list[str]:
    """Return how many groups are cut, by which limit, and what to set, where they are more than a few."""
    told, limit = [], limits.max_total
    share = float((lengths > limit).mean())
    if share > CUT_SHARE:
        needed = int(np.quantile(lengths, 1 - CUT_SHARE, method="higher"))
        told.append(
            f"{share:.1%} of the groups are longer than {limit} tokens and are cut: data.encoding.truncation.max_total "
            f"{needed} leaves at most {CUT_SHARE:.0%} so, where the model's context has room"
        )
    for part, most, kept, where in (
        ("prompt", limits.max_prompt, "last", "data.encoding.truncation.max_prompt"),
        ("response", limits.max_response, "first", "max_response, of model.reading or of data.encoding.truncation,"),
    ):
        if (share := cut.get(part, 0) / len(lengths)) > CUT_SHARE:
            told.append(
                f"{share:.1%} of the groups have a {part} of which the {kept} {most} tokens are kept: {where} sets it"
            )
    return told


def name_attributes(named: dict[str, bool], examples: Iterable[Example]) -> None:
    """Note which attributes examples name, in that order, and which have a label in some example."""
    for example in examples:
        for place, name in enumerate(example.attributes):
            if not named.get(name):
                named[name] = any(not math.isnan(row[place]) for row in example.scores)
