"""Where examples come from: files or a hub dataset, read row by row, with every row kept or counted as dropped."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from align.data.fields import prompt_id, unreadable
from align.data.hub import HubDataset, load_hub
from align.data.readers import Located, file_hash, read_rows
from align.errors import ConfigError, DataError
from align.records import Example, Scale

SPLIT_NAMES = {
    "train": ("train", "train_prefs", "train_sft"),
    "val": ("validation", "val", "dev", "eval"),
    "test": ("test", "test_prefs", "test_sft"),
}
DATA_SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")


@dataclass
class Report:
    """What became of the rows of one split: how many were read and kept, how many dropped and why, with some ids."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    ids: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, row: str) -> None:
        """Count a dropped row and remember the first five ids of each reason."""
        self.dropped[reason] += 1
        if len(self.ids.setdefault(reason, [])) < 5:
            self.ids[reason].append(row)

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
        return f"{self.read} rows, {self.kept} groups kept" + (f", dropped: {reasons}" if reasons else ", none dropped")


class DroppedRow(Exception):
    """A row that is well formed and cannot be used; it is counted under the message."""


class Source(ABC):
    """Reads the examples of one dataset. Subclasses turn a row into an Example."""

    def __init__(self, path: str, *, max_samples: int | None = None, weight: float = 1.0) -> None:
        """Describe a dataset.

        Args:
            path: A file, a folder, or a hub id.
            max_samples: Use at most this many examples of each split, chosen by a hash of their ids.
            weight: How often each training example appears in an epoch; 0.5 takes a different half each epoch.
        """
        if max_samples is not None and max_samples < 1:
            raise ConfigError(f"max_samples must be at least 1, got {max_samples}")
        if not weight > 0:
            raise ConfigError(f"weight must be positive, got {weight}")
        self.path, self.max_samples, self.weight = path, max_samples, weight
        self._hub: HubDataset | None = None

    @property
    def name(self) -> str:
        """Return a short name for reports and ids."""
        return Path(self.path).name.split(".")[0] or self.path

    @property
    def kind(self) -> str:
        """Return what the labels belong to: sources of one kind mean the same by a label."""
        return "file"

    @property
    def scales(self) -> Mapping[str, Scale]:
        """Return the scale of every label that has one by the rules of its dataset."""
        return {}

    def split_names(self) -> dict[str, list[str]]:
        """Return the file or hub split names behind `train`, `val` and `test`."""
        names = list(self.files() or self.hub().splits)
        found = {split: [n for n in names if n in known] for split, known in SPLIT_NAMES.items()}
        if not found["train"]:  # a lone file, or splits by other names: all the rest is training data
            found["train"] = [n for n in names if n not in found["val"] + found["test"]]
        if not found["train"]:
            raise DataError(f"data.path {self.path}: no training split, only {', '.join(names)}: give the file itself")
        return found

    def read(self, split: str, report: Report) -> list[Example]:
        """Return the examples of `train`, `val` or `test`; rows that cannot be used are counted in the report."""
        examples: list[Example] = []
        seen: dict[str, Example] = {}
        for name in self.split_names()[split]:
            for example in self.parse(self._counted(name, report), report):
                fault = next((f for m in example.messages if (f := unreadable(m.content))), None)
                known = seen.setdefault(example.id, example)
                if known is not example and known != example:
                    raise DataError(f"{self.path}: id {example.id!r} stands for two different rows: make ids unique")
                if fault or known is not example:
                    report.drop(fault or "duplicate row", example.id)
                else:
                    examples.append(example)
        sampled = _sample(examples, self.max_samples)
        if len(sampled) < len(examples):
            report.dropped["beyond max_samples"] += len(examples) - len(sampled)
        return sampled

    @abstractmethod
    def parse(self, rows: Iterable[Located], report: Report) -> Iterator[Example]:
        """Turn rows into examples; unusable rows go to the report, damaged ones raise DataError."""

    def files(self) -> dict[str, list[Path]]:
        """Return the data files of each named split, or nothing for a hub id or a folder in hub layout."""
        path = Path(self.path).expanduser()
        if path.exists() and not path.is_dir():
            return {"all": [path]}
        return folder_splits(path)

    def hub(self) -> HubDataset:
        """Return the hub dataset, loaded once."""
        if self._hub is None:
            self._hub = load_hub(
                str(Path(self.path).expanduser()) if Path(self.path).expanduser().exists() else self.path
            )
        return self._hub

    def fingerprint(self) -> str:
        """Return a hash of the raw data and of every setting that decides what is read from it."""
        files = [(split, file_hash(p)) for split, paths in self.files().items() for p in paths]
        content = repr(files) if files else self.hub().fingerprint
        settings = {
            k: v for k, v in sorted(vars(self).items()) if not k.startswith("_") and k not in ("path", "weight")
        }
        text = f"{type(self).__name__} {self.name} {content} {settings}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _counted(self, name: str, report: Report) -> Iterator[Located]:
        files = self.files()
        for located in _rows(files[name]) if files else self.hub().rows(name):
            report.read += 1
            yield located


def folder_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the files of a folder whose stems are split names, such as `train.jsonl.gz`."""
    known = {name for names in SPLIT_NAMES.values() for name in names}
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        stem = path.name.split(".")[0]
        if path.is_file() and stem in known and set(path.suffixes) & set(DATA_SUFFIXES):
            found.setdefault(stem, []).append(path)
    return found


def _rows(paths: list[Path]) -> Iterator[Located]:
    for path in paths:
        yield from read_rows(path)


def _sample(examples: list[Example], limit: int | None) -> list[Example]:
    """Return `limit` examples, chosen by a hash of prompt and id, in their old order."""
    if limit is None or len(examples) <= limit:
        return examples
    keys = {id(e): hashlib.sha256(f"{prompt_id(e.messages)} {e.id}".encode()).digest() for e in examples}
    chosen = set(sorted(keys, key=lambda key: keys[key])[:limit])
    return [e for e in examples if id(e) in chosen]
