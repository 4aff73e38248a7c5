"""Where examples come from: files or a hub dataset, read row by row, with every row kept or counted as dropped."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from align.data.drop_report import DroppedRow, LeftOut, Report, RowError
from align.data.folders import SPLIT_NAMES, folder_splits, of_split, short_name
from align.data.hub import HubDataset, load_hub
from align.data.own_code import own_code
from align.data.read_row import ReadRow
from align.data.readers import Located, content_hash, rows_from
from align.data.sampled_examples import SampledExamples
from align.data.sound import sound
from align.errors import ConfigError, DataError
from align.records import Example, Scale

__all__ = ["SPLIT_NAMES", "DroppedRow", "LeftOut", "Report", "RowError", "Source"]


class Source:
    """Reads the examples of one dataset. Subclasses turn a row into an Example."""

    peek: ClassVar[int] = 0
    """First rows of a file that decide how it is read."""
    by_row: ClassVar[bool] = True
    """Whether a row is an example, whatever the other rows are."""
    streams: ClassVar[bool] = True
    """Whether rows are read from somewhere."""

    def __init__(self, path: str, *, max_samples: int | None = None, weight: float = 1.0) -> None:
        """Describe a dataset.

        Args:
            path: A file, a folder, or a hub id.
            max_samples: Use at most this many examples of each split, chosen by a hash of their ids.
            weight: How often each training example appears in an epoch; 0.5 takes a different half each epoch.
        """
        if self.streams and not path.strip():
            raise ConfigError("data.path is empty: give a file, a folder or a hub id")
        if max_samples is not None and max_samples < 1:
            raise ConfigError(f"max_samples must be at least 1, got {max_samples}")
        if not weight > 0:
            raise ConfigError(f"weight must be positive, got {weight}")
        self.path, self.max_samples, self.weight = path, max_samples, weight
        self._hub: HubDataset | None = None
        self._streamed = False
        self._others: list[str] = []

    @property
    def name(self) -> str:
        """Return a short name for reports and ids."""
        return short_name(self.path)

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
        found = {split: of_split(names, known) for split, known in SPLIT_NAMES.items()}
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
        sampled = SampledExamples(self.max_samples)
        for example in self._sound(split, report):
            sampled.offer(example)
        if sampled.beyond:
            report.dropped["beyond max_samples"] += sampled.beyond
        yield from sampled.examples()

    def _sound(self, split: str, report: Report) -> Iterator[Example]:
        """Yield the examples of a split that can be used."""
        names = self.split_names()[split]
        if split == "train":
            self.note_others(report)
        yield from sound(self.parse((row for name in names for row in self._counted(name, report)), report), report)
        report.check(self.path)

    def note_others(self, report: Report) -> None:
        """Name the files or splits that are read for no split."""
        if self._others:
            report.notes.append(f"not read: {', '.join(self._others)}")

    def parse(self, rows: Iterable[Located], report: Report) -> Iterator[Example]:
        """Turn rows into examples, file by file; rows that cannot be used are counted in the report."""
        layouts: dict[str, str] = {}
        for file, located in itertools.groupby(rows, key=lambda one: one.where.rsplit(", ", 1)[0]):
            rest = iter(located)
            first = list(itertools.islice(rest, self.peek))
            reading = self.reading(first)
            self.check_layout(layouts, file, reading)
            report.why = reading.why or report.why
            for one in self.gathered(reading, itertools.chain(first, rest), report):
                yield from self.read_row(reading, one, report)

    def gathered(self, reading: ReadRow, rows: Iterable[Located], report: Report) -> Iterator[Located]:
        """Yield the rows of a file as they are read; those that are put together count as one from then on."""
        if reading.gather is None:
            yield from rows
            return
        taken = list(rows)
        report.read -= len(taken)
        yield from self.counted(reading.gather(taken), report)

    def reading(self, first: Sequence[Located]) -> ReadRow:
        """Return how the rows of a file are read, which its first ones decide. Raises DataError where they cannot."""
        return ReadRow(self.examples)

    def check_layout(self, layouts: dict[str, str], file: str, reading: ReadRow) -> None:
        """Raise DataError for a file that is read in another way than those before it, and note how it is."""
        layouts[file] = reading.layout
        if len(set(layouts.values())) > 1:
            told = " and ".join(f"{name} ({layout})" for name, layout in list(layouts.items())[-2:])
            raise DataError(f"data.path {self.path}: mixed layouts, {told}: give one of them, or make a mixture")

    def read_row(self, reading: ReadRow, located: Located, report: Report) -> Iterator[Example]:
        """Yield the examples of a row, none of one that cannot be used, which is counted."""
        try:
            yield from reading.examples(located, report)
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
            local = Path(self.path).expanduser()
            self._hub = load_hub(str(local) if local.exists() else self.path, streaming=self._streamed)
        return self._hub

    def stream_hub(self) -> None:
        """Fetch rows of a hub dataset as they are read, from now on."""
        self._streamed = True

    def fingerprint(self) -> str:
        """Return a hash of the raw data and of every setting that decides what is read from it."""
        files = [(split, content_hash(p)) for split, paths in self.files().items() for p in paths]
        return self.fingerprint_of(repr(files) if files else self.hub().fingerprint)

    def fingerprint_of(self, content: str) -> str:
        """Return a hash of what stands for the raw data, and of every setting that decides what is read from it."""
        settings = {
            k: v for k, v in sorted(vars(self).items()) if not k.startswith("_") and k not in ("path", "weight")
        }
        text = f"{type(self).__name__} {self.name} {content} {settings}{own_code(type(self))}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _counted(self, name: str, report: Report) -> Iterator[Located]:
        files = self.files()
        rows = (row for path in files[name] for row in rows_from(path)) if files else self.hub().rows(name)
        return self.counted(rows, report)

    def counted(self, rows: Iterable[Located | RowError], report: Report) -> Iterator[Located]:
        """Yield the rows among what was read, and count all of it."""
        for located in rows:
            report.read += 1
            if isinstance(located, Located):
                yield located
            else:
                report.refuse(located, located.where, self.place(Located(located.where, {})))
