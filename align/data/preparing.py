"""A source made ready to train on: read, viewed and tokenised in one pass, a bounded part of it in memory."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from align.data.chunks import CHUNK, Chunk, encode_chunks
from align.data.encoded import FORMAT, EncodedFile, load_cached, write_note
from align.data.encoded_groups import GroupTable
from align.data.encoding import EncodingConfig
from align.data.gathering import Gathering
from align.data.once import one_at_a_time
from align.data.source import Report, Source
from align.data.splits import Division, Splits
from align.data.views import Pairs, View
from align.encoding.encoder import Encoder
from align.errors import DataError
from align.records import Example

Found = dict[str, tuple[list[GroupTable], Report]]
"""The groups and the report of every split."""


def prepare(source: Source, view: View, splits: Splits, encoder: Encoder, encoding: EncodingConfig) -> Preparation:
    """Return what is made of a source, under keys that hold everything that decides it."""
    content, encoded, keys = source.fingerprint(), encoder.fingerprint, {}
    for split in ("train", "val", "test"):
        parts = (FORMAT, content, view.fingerprint, splits, split, encoded)
        keys[split] = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
    return Preparation(source, view, splits, encoder, Path(encoding.cache_dir), keys, encoding.num_proc)


@dataclass(frozen=True)
class Preparation:
    """What is made of a source, and where it is kept."""

    source: Source
    view: View
    splits: Splits
    encoder: Encoder
    folder: Path
    keys: Mapping[str, str]
    """The cache entry of each split."""
    num_proc: int | None = None

    def tables(self) -> Found:
        """Return the groups and the report of every split, made by one process where the cache has them not."""
        found = self._cached()
        if len(found) < len(self.keys):
            with one_at_a_time(self.folder, self.keys["train"], *self.keys.values()):
                if len(self._cached()) < len(self.keys):
                    self._make()
            found = self._cached()
        return found

    def _cached(self) -> Found:
        cached = {split: load_cached(self.folder, key) for split, key in self.keys.items()}
        return {split: entry for split, entry in cached.items() if entry is not None}

    def _make(self) -> None:
        division = Division(self.source, self.splits)
        files = {split: EncodedFile(self.folder, key, self.encoder.truncation) for split, key in self.keys.items()}
        try:
            viewing = fill(files, division, self.view, self.encoder, self.num_proc)
            for split, report in division.reports.items():
                if viewing.examples[split]:
                    files[split].finish(report, split)
                else:
                    write_note(report, self.folder, self.keys[split])
        finally:
            for file in files.values():
                file.discard()


def fill(
    files: Mapping[str, Gathering], division: Division, view: View, encoder: Encoder, num_proc: int | None
) -> Viewing:
    """Put what a view makes of each split into its file, encoded, and complete the reports on the rows.

    Raises DataError for a split of which nothing is left, or most rows are at fault.
    """
    viewing = Viewing(division, view, files)
    gc.freeze()  # what is there before the rows is not searched for garbage again and again
    often = gc.get_threshold()
    gc.set_threshold(100 * often[0], *often[1:])
    try:
        for encoded in encode_chunks(viewing, encoder, num_proc):
            files[encoded.split].write(encoded)
    finally:
        gc.set_threshold(*often)
        gc.unfreeze()
    for split, report in division.reports.items():
        viewing.count(split, report)
    return viewing


class Viewing:
    """The groups that a view makes of a divided source, in chunks of one split, and the reports on them."""

    def __init__(self, division: Division, view: View, files: Mapping[str, Gathering]) -> None:
        self._division, self._view, self._files = division, view, files
        self._reports = {split: Report() for split in division.reports}
        self._groups = dict.fromkeys(division.reports, 0)
        self.examples = dict.fromkeys(division.reports, 0)
        """How many there are of each split."""

    def __iter__(self) -> Iterator[Chunk]:
        waiting: dict[str, list[Example]] = {split: [] for split in self._reports}
        quiet = rank_zero_only.rank != 0  # type: ignore[attr-defined]
        for split, example in tqdm(self._division, "tokenising", unit=" rows", delay=5, mininterval=5, disable=quiet):
            self.examples[split] += 1
            waiting[split] += self._view.made(example, self._reports[split])
            if len(waiting[split]) >= CHUNK:
                yield self._chunk(split, waiting[split])
                waiting[split] = []
        for split, rest in waiting.items():
            if rest:
                yield self._chunk(split, rest)

    def _chunk(self, split: str, groups: list[Example]) -> Chunk:
        self._groups[split] += len(groups)
        return self._files[split].chunk(split, groups)

    def count(self, split: str, report: Report) -> None:
        """Add what the view dropped. Raises DataError where it left nothing, or most rows are at fault."""
        if not self.examples[split] and split != "train":
            return
        report.add(self._reports[split])
        report.kept = self._groups[split]
        path = self._division.source.path
        if not report.kept:
            drawn = "; a method that draws its own samples takes them with --data.view DrawnPairs"
            hint = drawn if set(report.layouts) == {"prompts"} and isinstance(self._view, Pairs) else ""
            raise DataError(f"data.path {path}: no {type(self._view).__name__} in the {split} split: {report}{hint}")
        report.check(path)
