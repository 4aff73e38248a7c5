"""Encoded groups on disk: tokenised once, under a key that holds everything that decides the ids."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from align.data.chunks import CHUNK, SCHEMA, encode_chunks
from align.data.encoded_groups import GroupTable
from align.data.gathering import Gathering, in_columns, refuse_none
from align.data.once import one_at_a_time
from align.data.source import Report
from align.encoding.encoder import Encoder
from align.encoding.truncation import Truncation
from align.files import atomic_write_text, beside, sync_folder
from align.records import Example

FORMAT = 7
"""Raise when the meaning of a cached column changes."""


def load_cached(folder: Path, key: str) -> tuple[list[GroupTable], Report] | None:
    """Return the groups cached under a key (none for a split without rows), or None when they have yet to be made."""
    data, note = folder / f"{key}.arrow", folder / f"{key}.json"
    if not note.exists():
        return None
    stored = json.loads(note.read_text())
    attributes = tuple(stored.pop("attributes"))
    counters = {name: Counter(stored[name]) for name in ("dropped", "layouts")}
    report = Report(**{**stored, **counters})
    return ([GroupTable(datasets.Dataset.from_file(str(data)), attributes)] if report.kept else []), report


def write_note(report: Report, folder: Path, key: str, attributes: tuple[str, ...] = ()) -> None:
    """Write a report; it comes last and makes the cache entry valid, also that of a split without rows."""
    atomic_write_text(folder / f"{key}.json", json.dumps({"attributes": attributes, **vars(report)}))


def encode(
    examples: Sequence[Example], encoder: Encoder, report: Report, *, folder: Path, key: str, num_proc: int | None
) -> GroupTable:
    """Encode examples, cache the result and its report, and return the groups kept. Raises DataError when none is.

    One process of a machine does so, the others wait and open the file.
    """
    with one_at_a_time(folder, key):
        if (cached := load_cached(folder, key)) is not None and cached[0]:
            return cached[0][0]
        file = EncodedFile(folder, key, encoder.truncation)
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


class EncodedFile(Gathering):
    """An Arrow file of encoded groups, written as they come; nothing of it counts before it is finished."""

    def __init__(self, folder: Path, key: str, limits: Truncation) -> None:
        """Begin the file of a cache entry; `limits` are those that groups are cut to."""
        super().__init__(limits)
        self._folder, self._key = folder, key
        self._part, self._wide = (beside(folder / f"{key}.arrow", ending) for ending in ("part", "wide.part"))
        self._writer = pa.ipc.new_stream(str(self._part), SCHEMA)

    def _put(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def finish(self, report: Report, split: str = "train") -> None:
        """Put the file in its place, with a report on all its rows. Raises DataError where no row is left."""
        self.count(report)
        refuse_none(report, split)
        attributes = self.attributes
        self._writer.close()
        if any(columns != attributes for columns in self._widths):
            self._align(attributes)
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
        with pa.memory_map(str(self._wide)) as source, pa.ipc.new_stream(str(self._part), SCHEMA) as writer:
            for batch, columns in zip(pa.ipc.open_stream(source), self._widths, strict=True):
                writer.write_batch(in_columns(batch, columns, attributes))
