"""Rows of a Hugging Face dataset: a hub id, or a local folder in one of the layouts the hub knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from align.data.readers import Located
from align.errors import DataError, shorten


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

    try:
        return HubDataset(path, dict(datasets.load_dataset(path, **options)))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = shorten(error.__cause__ or error, 160)
        raise DataError(
            f"data.path {path!r}: no such file, and it could not be loaded as a dataset id or folder ({reason}): "
            "check the spelling, or download it first and give the local path"
        ) from error
