"""HH-RLHF (Bai et al. 2022, arXiv:2204.05862): pairs of whole dialogues that differ in the last assistant turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from align.data.data_module import PreferenceDataModule
from align.data.drop_report import Report
from align.data.folders import folder_splits
from align.data.hub import HubDataset, load_hub
from align.data.keeping_source import KeepingSource
from align.data.readers import Located
from align.data.row_validation import field
from align.data.transcripts import read_answers, read_context
from align.errors import ConfigError
from align.records import Example

SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
COLUMNS = {"prompt", "chosen", "rejected"}


class HHRLHF(KeepingSource):
    """Reads HH-RLHF: the official folder with its four subsets, one subset folder, one file, or a hub id."""

    def __init__(self, path: str, *, subsets: Sequence[str] = SUBSETS, **options: Any) -> None:
        """Describe HH-RLHF data.

        Args:
            path: The official folder, a subset folder, a `.jsonl` or `.jsonl.gz` file, or a hub id.
            subsets: Which subsets of the official folder or hub dataset to read.
            options: See KeepingSource.
        """
        super().__init__(path, **options)
        unknown = set(subsets) - set(SUBSETS)
        if unknown or not subsets:
            raise ConfigError(f"subsets must be some of {', '.join(SUBSETS)}, got {', '.join(subsets) or 'none'}")
        self.subsets = tuple(subsets)

    def files(self) -> dict[str, list[Path]]:
        """Return train and test files; in the official folder those of every chosen subset."""
        folder = Path(self.path).expanduser()
        nested = [folder_splits(folder / subset) for subset in self.subsets]
        if not any(nested):
            return super().files()
        missing = [s for s, found in zip(self.subsets, nested, strict=True) if not found]
        if missing:
            raise ConfigError(
                f"data.path {folder}: no files in {', '.join(missing)}: add them, or name the subsets you have"
            )
        return {split: [p for found in nested for p in found.get(split, [])] for split in ("train", "test")}

    def hub(self) -> HubDataset:
        """Load the chosen subsets, each by folder: the merged view of the hub has no subset column."""
        if self._hub is None:
            parts = {subset: load_hub(self.path, streaming=self._streamed, data_dir=subset) for subset in self.subsets}
            splits = {f"{split}@{s}": rows for s, part in parts.items() for split, rows in part.splits.items()}
            files = {f"{split}@{s}": names for s, part in parts.items() for split, names in part.files.items()}
            self._hub = HubDataset(self.path, splits, files)
        return self._hub

    def split_names(self) -> dict[str, list[str]]:
        """Return the splits; a hub split is named `split@subset`."""
        if self.files():
            return super().split_names()
        names = {s: [n for n in self.hub().splits if n.startswith(f"{s}@")] for s in ("train", "test")}
        return {**names, "val": []}

    def examples(self, located: Located, report: Report) -> Iterable[Example]:
        """Parse both dialogues; a row that is not a preference between two answers to one context is dropped."""
        for name in located.row.keys() - COLUMNS.union(self._kept):
            report.unused.setdefault(str(name), self.place(located))
        if "prompt" in located.row:  # the variant with columns prompt, chosen, rejected
            context = read_context(field(located, "prompt"))
            answers = [field(located, key).strip() for key in ("chosen", "rejected")]
        else:
            context, answers = read_answers(*(field(located, key) for key in ("chosen", "rejected")))
        place = self.place(located)
        subset = next((name for name in SUBSETS if name in place), None)
        made = Example(place, tuple(context), tuple(answers), ranking=((0,), (1,)), source=subset or self.name)
        yield self.keeping([located], made)


class HHRLHFDataModule(PreferenceDataModule):
    """Serves HH-RLHF preference pairs."""

    def __init__(
        self,
        path: str,
        max_samples: int | None = None,
        *,
        subsets: Sequence[str] = SUBSETS,
        keep_columns: list[str] | None = None,
        **options: Any,
    ) -> None:
        """Describe the data.

        Args:
            path: The official folder, a subset folder, a `.jsonl` or `.jsonl.gz` file, or a hub id (Anthropic/hh-rlhf).
            max_samples: Use at most this many pairs of each split, chosen by a hash of their ids.
            subsets: Which subsets of the official folder or hub dataset to read.
            keep_columns: Columns for reward functions, such as `[answer]`.
            options: See PreferenceDataModule.
        """
        source = HHRLHF(path, subsets=subsets, max_samples=max_samples, keep_columns=keep_columns or ())
        super().__init__([source], **options)
