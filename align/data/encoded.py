"""Encoded groups on disk: tokenised once, under a key that holds everything that decides the ids."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

from align.atomic import beside, sync_folder, write_whole_text
from align.data.chunks import CHUNK, SCHEMA, Chunk, Encoded, aligned, encode_chunks
from align.data.groups import Table
from align.data.once import one_at_a_time
from align.data.source import Report
from align.encoding.encoder import Encoder
from align.errors import DataError
from align.records import Example

FORMAT = 6
"""Raise when the meaning of a cached column changes."""
CUT_SHARE = 0.05
"""More groups than this share have to be cut before it is a warning."""


def load_cached(folder: Path, key: str) -> tuple[list[Table], Report] | None:
    """Return the groups cached under a key (none for a split without rows), or None when they have yet to be made."""
    data, note = folder / f"{key}.arrow", folder / f"{key}.json"
    if not note.exists():
        return None
    stored = json.loads(note.read_text())
    attributes = tuple(stored.pop("attributes"))
    counters = {name: Counter(stored[name]) for name in ("dropped", "layouts")}
    report = Report(**{**stored, **counters})
    return ([Table(datasets.Dataset.from_file(str(data)), attributes)] if report.kept else []), report


def write_note(report: Report, folder: Path, key: str, attributes: tuple[str, ...] = ()) -> None:
    """Write a report; it comes last and makes the cache entry valid, also that of a split without rows."""
    write_whole_text(folder / f"{key}.json", json.dumps({"attributes": attributes, **vars(report)}))


def encode(
    examples: Sequence[Example], encoder: Encoder, report: Report, *, folder: Path, key: str, num_proc: int | None
) -> Table:
    """Encode examples, cache the result and its report, and return the groups kept. Raises DataError when none is.

    One process of a machine does so, the others wait and open the file.
    """
    with one_at_a_time(folder, key):
        if (cached := load_cached(folder, key)) is not None and cached[0]:
            return cached[0][0]
        file = EncodedFile(folder, key, encoder.truncation.max_total)
        chunks = (file.chunk("", examples[i : i + CHUNK]) for i in range(0, len(examples), CHUNK))
        try:
            for encoded in encode_chunks(chunks, encoder, num_proc):
                file.write(encoded)
            file.finish(report)
        finally:
            file.discard()
    cached = load_cached(folder, key)
    assert cached is not None
    return cached[0][0]


class EncodedFile:
    """An Arrow file of encoded groups, written as they come; nothing of it counts before it is finished."""

    def __init__(self, folder: Path, key: str, limit: int) -> None:
        """Begin the file of a cache entry; `limit` is the length that groups are cut to."""
        self._folder, self._key, self._limit = folder, key, limit
        self._part, self._wide = (beside(folder / f"{key}.arrow", ending) for ending in ("part", "wide.part"))
        self._writer = pa.ipc.new_stream(str(self._part), SCHEMA)
        self._dropped, self._notes = Report(), Counter[str]()
        self._lengths = [np.zeros(0, dtype=np.int64)]
        self._named: dict[str, bool] = {}
        self._widths: list[tuple[str, ...]] = []

    def chunk(self, split: str, examples: Sequence[Example]) -> Chunk:
        """Return examples to be encoded, in the columns that are known so far."""
        name_attributes(self._named, examples)
        return Chunk(split, examples, tuple(self._named))

    def write(self, encoded: Encoded) -> None:
        """Write what became of a chunk."""
        for row in encoded.dropped:
            self._dropped.drop(row.reason, row.id)
        self._notes.update(encoded.notes)
        self._lengths.append(np.asarray(encoded.lengths, dtype=np.int64))
        if encoded.batch.num_rows:
            self._widths.append(encoded.columns)
            self._writer.write_batch(encoded.batch)

    def finish(self, report: Report) -> None:
        """Put the file in its place, with a report on all its rows. Raises DataError where no row is left."""
        lengths = np.concatenate(self._lengths)
        report.add(self._dropped)
        report.kept = len(lengths)
        if not report.kept:
            raise DataError(f"no row is left to train on: {report}")
        attributes = tuple(name for name, known in self._named.items() if known)
        self._writer.close()
        if any(columns != attributes for columns in self._widths):
            self._align(attributes)
        report.warnings = warnings_of(self._notes, lengths, self._limit)
        sync_folder(self._part)  # a file is synced through a handle in the same way
        self._part.replace(self._folder / f"{self._key}.arrow")
        write_note(report, self._folder, self._key, attributes)

    def discard(self) -> None:
        """Leave nothing half-written behind."""
        self._writer.close()
        for part in (self._part, self._wide):
            part.unlink(missing_ok=True)

    def _align(self, attributes: tuple[str, ...]) -> None:
        """Write the scores again in the columns that turned out to hold labels."""
        self._part.replace(self._wide)
        place = SCHEMA.get_field_index("scores")
        with pa.memory_map(str(self._wide)) as source, pa.ipc.new_stream(str(self._part), SCHEMA) as writer:
            for batch, columns in zip(pa.ipc.open_stream(source), self._widths, strict=True):
                scores = [aligned(rows, columns, attributes) for rows in batch.column(place).to_pylist()]
                writer.write_batch(batch.set_column(place, SCHEMA.field(place), pa.array(scores, SCHEMA.types[place])))


def warnings_of(notes: Counter[str], lengths: np.ndarray, limit: int) -> list[str]:
    """Return what a user should know of encoded groups: what they lack, and how many are cut to fit the limit."""
    told = [f"{count} of {len(lengths)} groups {note}" for note, count in notes.most_common()]
    share = float((lengths > limit).mean())
    if share > CUT_SHARE:
        needed = int(np.quantile(lengths, 1 - CUT_SHARE, method="higher"))
        told.append(
            f"{share:.1%} of the groups are longer than {limit} tokens and are cut: data.encoding.truncation.max_total "
            f"{needed} leaves at most {CUT_SHARE:.0%} so, where the model's context has room"
        )
    return told


def name_attributes(named: dict[str, bool], examples: Iterable[Example]) -> None:
    """Note which attributes examples name, in that order, and which have a label in some example."""
    for example in examples:
        for place, name in enumerate(example.attributes):
            if not named.get(name):
                named[name] = any(not math.isnan(row[place]) for row in example.scores)
