"""The shards of a stream: files, or parts of a dataset of the hub, each read from any row on."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa

from align.data.drop_report import RowError
from align.data.hub import HubDataset
from align.data.located import Located
from align.data.readers import is_read_whole, rows_from, stamp
from align.data.source import Source
from align.errors import ConfigError, DataError, ResumeError, shorten

HEAD = 2**16
"""Bytes at the beginning of a file that tell it from another of its size."""


UNREADABLE = (datasets.exceptions.DatasetsError, pa.ArrowException)


class Identity(NamedTuple):
    """What a shard is known by again."""

    name: str
    size: int
    """Bytes, 0 where that is not known."""
    head: str
    """Hash of how it begins."""


class Shard(ABC):
    """Rows in an order that does not change."""

    identity: Identity

    @abstractmethod
    def rows(self, start: int = 0) -> Iterator[Located | RowError]:
        """Yield the rows, and the lines that are none, but for the first `start` of them."""


@dataclass(frozen=True)
class FileShard(Shard):
    """A JSONL or Parquet file."""

    path: Path
    identity: Identity

    def rows(self, start: int = 0) -> Iterator[Located | RowError]:
        """Yield its rows from one on. Raises DataError for a file that is another than at the start of the run."""
        if stamp(self.path)[0] != self.identity.size:
            raise DataError(f"{self.path}: the file changed while it was streamed: start again when it is complete")
        return rows_from(self.path, start)


@dataclass(frozen=True)
class HubShard(Shard):
    """A part of a split that the datasets library reads."""

    dataset: Any
    """A Dataset, which knows its rows by number, or an IterableDataset."""
    where: str
    identity: Identity

    def rows(self, start: int = 0) -> Iterator[Located | RowError]:
        """Yield its rows from one on. Raises DataError where the hub, or a file, cannot be read any further."""
        rest = (
            self.dataset.select(range(start, len(self.dataset)))
            if hasattr(self.dataset, "select")
            else self.dataset.skip(start)
        )
        number = start
        try:
            for number, row in enumerate(rest, start + 1):
                yield Located(f"{self.where}, row {number}", row)
        except (*UNREADABLE, OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{self.where}: cannot be read behind row {number} ({shorten(error.__cause__ or error, 160)}): give "
                "the same command again, it goes on from its last checkpoint"
            ) from error


def shards_of(source: Source, split: str) -> list[Shard]:
    """Return the shards of a split, in the order in which they are read where nothing is streamed.

    Raises ConfigError for a file that could only be read as a whole.
    """
    files, names = source.files(), source.split_names()[split]
    if not files:
        return [shard for name in names for shard in hub_shards(source.hub(), name)]
    root = Path(source.path).expanduser()
    return [_file_shard(path, root) for name in names for path in files[name]]


def _file_shard(path: Path, root: Path) -> FileShard:
    size, _ = stamp(path)
    if is_read_whole(path):
        raise ConfigError(
            f"data.streaming: {path} can only be read as a whole (CSV, TSV, a JSON document, packed Parquet): convert "
            "it to JSONL or Parquet, or set data.streaming false"
        )
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(HEAD)).hexdigest()
    return FileShard(path, Identity(str(path.relative_to(root)) if path != root else path.name, size, head[:16]))


def hub_shards(hub: HubDataset, split: str) -> list[Shard]:
    """Return the shards of a split of a dataset that the datasets library reads."""
    rows, where = hub.splits[split], f"{hub.path} [{split}]"
    if hasattr(rows, "select"):
        return [HubShard(rows, where, Identity(where, len(rows), rows._fingerprint))]
    parts = rows.num_shards
    places = [where] if parts == 1 else [f"{hub.path} [{split} {number}]" for number in range(parts)]
    files = hub.files.get(split, ())
    known = files if len(files) == parts else [(place, repr(files)) for place in places]
    return [
        HubShard(rows.shard(parts, number), place, Identity(name, 0, hashlib.sha256(origin.encode()).hexdigest()[:16]))
        for number, (place, (name, origin)) in enumerate(zip(places, known, strict=True))
    ]


def check_shards(before: Sequence[Sequence[Any]] | None, shards: Sequence[Shard] | None) -> None:
    """Raise ResumeError where shards, None where nothing is or was streamed, are not those of a checkpoint."""
    if shards is None:
        raise ResumeError("cannot resume: the data were streamed in the checkpoint: set data.streaming true")
    if before is None:
        raise ResumeError("cannot resume: the data were not streamed in the checkpoint: set data.streaming false")
    if told := _changed(before, [shard.identity for shard in shards]):
        raise ResumeError(f"cannot resume: {told}: put back what the checkpoint was trained on, or begin anew")


def _changed(before: Sequence[Sequence[Any]], now: Sequence[Identity]) -> str | None:
    """Return how the shards differ from those of before, None where they are the same."""
    known = {identity.name: identity for identity in now}
    for name, size, head in before:
        found = known.pop(name, None)
        if found is None:
            return f"shard {name} is missing"
        if found.size != size:
            return f"shard {name} had {size:,} bytes and has {found.size:,} now"
        if found.head != head:
            return f"shard {name} begins with other bytes than before"
    if known:
        return f"shard {next(iter(known))} is new"
    return None if [s[0] for s in before] == [s.name for s in now] else "the shards are in another order"
