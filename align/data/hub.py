"""Rows of a Hugging Face dataset: a hub id, a folder that `save_to_disk` wrote, or one in a layout the hub knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from align.data.readers import Located
from align.errors import DataError, shorten

SAVED = ("state.json", "dataset_dict.json")
"""Files that tell a folder `save_to_disk` wrote: one split, or several."""


class HubDataset(NamedTuple):
    """A loaded dataset: its splits, and an id that changes with its content."""

    path: str
    splits: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Return the fingerprints that the datasets library gave to the splits."""
        return ";".join(f"{name}={split._fingerprint}" for name, split in sorted(self.splits.items()))

    def rows(self, split: str) -> Iterator[Located]:
        """Yield the rows of one split."""
        for number, row in enumerate(self.splits[split], 1):
            yield Located(f"{self.path} [{split}], row {number}", row)


def load_hub(path: str, **options: Any) -> HubDataset:
    """Load a dataset by hub id or folder. `options` go to `datasets.load_dataset` (`data_dir`, `name`, `revision`).

    Raises DataError when neither exists, the network is unreachable, or the files of the folder do not agree.
    """
    import datasets
    import pyarrow as pa

    try:
        if saved := saved_splits(Path(path)):
            return HubDataset(path, _opened(saved))
        return HubDataset(path, dict(datasets.load_dataset(path, trust_remote_code=False, **options)))
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError, pa.ArrowException) as error:
        reason = shorten(error.__cause__ or error, 160)
        raise DataError(
            f"data.path {path!r}: no such file, and it could not be loaded as a dataset id or folder ({reason}): "
            "check the spelling, or download it first and give the local path"
        ) from error


def saved_splits(folder: Path) -> dict[str, Path]:
    """Return the folders `save_to_disk` wrote at a place: the folder itself, or those in it by their names."""
    if not folder.is_dir():
        return {}
    if any((folder / name).is_file() for name in SAVED):
        return {"": folder}
    return {path.name: path for path in sorted(folder.iterdir()) if (path / "state.json").is_file()}


def _opened(saved: dict[str, Path]) -> dict[str, Any]:
    from datasets import DatasetDict, load_from_disk

    splits: dict[str, Any] = {}
    for name, folder in saved.items():
        found = load_from_disk(str(folder))
        if isinstance(found, DatasetDict):
            splits |= {f"{name}/{split}" if name else str(split): rows for split, rows in found.items()}
        else:
            splits[name or "train"] = found
    return splits
