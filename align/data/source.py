"""Where examples come from: files or a hub dataset, read row by row, with every row kept or counted as dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from align.data.fields import unreadable
from align.data.folders import SPLIT_NAMES, folder_splits
from align.data.hub import HubDataset, load_hub
from align.data.readers import Located, file_hash, read_rows
from align.data.report import DroppedRow, LeftOut, Report, RowError
from align.data.sampling import Sample
from align.errors import ConfigError, DataError
from align.records import Example, Scale

__all__ = ["SPLIT_NAMES", "DroppedRow", "LeftOut", "Report", "RowError", "Source"]


class Source:
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
        self._others: list[str] = []

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
        self._others = [n for n in names if not any(n in group for group in found.values())]
        return found

    def read(self, split: str, report: Report) -> list[Example]:
        """Return the examples of `train`, `val` or `test`; rows that cannot be used are counted in the report."""
        return list(self.stream(split, report))

    def stream(self, split: str, report: Report) -> Iterator[Example]:
        """Yield the examples of a split one by one; the report is complete, and checked, behind the last of them."""
        if self.max_samples is None:
            yield from self._sound(split, report)
            return
        sampled = Sample(self.max_samples)
        for example in self._sound(split, report):
            sampled.offer(example)
        if sampled.beyond:
            report.dropped["beyond max_samples"] += sampled.beyond
        yield from sampled.examples()

    def _sound(self, split: str, report: Report) -> Iterator[Example]:
        """Yield the examples that can be used, each row once and under an id of its own."""
        seen: dict[str, int] = {}
        renamed = 0
        names = self.split_names()[split]
        if split == "train" and self._others:
            report.notes.append(f"not read: {', '.join(self._others)}")
        for example in self.parse((row for name in names for row in self._counted(name, report)), report):
            content = hash(example)
            known = example.id in seen
            if known and seen[example.id] == content:
                report.drop("duplicate row", example.id)
                continue
            seen.setdefault(example.id, content)
            if fault := _fault(example):
                report.drop(fault, example.id, odd=True)
                continue
            if known:
                renamed += 1
                yield _renamed(example, seen)
            else:
                yield example
        if renamed:
            report.notes.append(f"{renamed} ids stood for another row before and were made unique")
        report.check(self.path)

    def parse(self, rows: Iterable[Located], report: Report) -> Iterator[Example]:
        """Turn rows into examples; rows that cannot be used are counted in the report."""
        for located in rows:
            try:
                yield from self.examples(located, report)
            except (DroppedRow, RowError) as error:
                report.refuse(error, located.where, self.place(located))

    def examples(self, located: Located, report: Report) -> Iterable[Example]:
        """Return the examples of a row. Raises DroppedRow or RowError for one that cannot be used."""
        raise NotImplementedError

    def place(self, located: Located) -> str:
        """Return where a row stands within the data; the id of its example where it has none of its own."""
        return located.where.removeprefix(self.path).lstrip("/, ")

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

        def fault(error: RowError) -> None:
            report.read += 1
            report.refuse(error, error.where, self.place(Located(error.where, {})))

        rows = (row for path in files[name] for row in read_rows(path, fault)) if files else self.hub().rows(name)
        for located in rows:
            report.read += 1
            yield located


def _fault(example: Example) -> str | None:
    """Return why a prompt cannot be read, or None."""
    messages = [*example.messages, *(m for context in example.contexts for m in context)]
    return next((f for m in messages if (f := unreadable(m.content + m.reasoning_content))), None)


def _renamed(example: Example, seen: dict[str, int]) -> Example:
    """Return the example under an id that no other has."""
    number = 2
    while f"{example.id}~{number}" in seen:
        number += 1
    renamed = replace(example, id=f"{example.id}~{number}")
    seen[renamed.id] = hash(renamed)
    return renamed
