"""Rows of a Hugging Face dataset: a hub id, a folder that `save_to_disk` wrote, or one in a layout the hub knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from align.data.folders import SUFFIXES
from align.data.hub_reach import as_reachable
from align.data.readers import Located
from align.errors import DataError, did_you_mean, shorten

SAVED = ("state.json", "dataset_dict.json")
"""Files that tell a folder `save_to_disk` wrote: one split, or several."""


class HubDataset(NamedTuple):
    """A loaded dataset: its splits, and an id that changes with its content."""

    path: str
    splits: dict[str, Any]
    files: Mapping[str, Sequence[tuple[str, str]]] = {}
    """Where the rows of each split come from, and what tells versions of it apart; where they are streamed."""

    @property
    def fingerprint(self) -> str:
        """Return the fingerprints that the datasets library gave to the splits."""
        return ";".join(f"{name}={split._fingerprint}" for name, split in sorted(self.splits.items()))

    def rows(self, split: str) -> Iterator[Located]:
        """Yield the rows of one split."""
        for number, row in enumerate(self.splits[split], 1):
            yield Located(f"{self.path} [{split}], row {number}", row)


def load_hub(path: str, *, streaming: bool = False, **options: Any) -> HubDataset:
    """Load a dataset by hub id or folder; `id@revision` takes a branch, tag or commit. `options` go to `load_dataset`.

    With `streaming` nothing is fetched or copied before it is read.

    Raises DataError when neither exists, may not be read, the network is unreachable, or the files do not agree.
    """
    import datasets
    import pyarrow as pa

    name, _, revision = path.partition("@")
    _check_place(path)
    asked = True
    try:
        if saved := saved_splits(Path(path)):
            return HubDataset(path, _opened(saved))
        if revision and not Path(path).exists():
            options |= {"path": name, "revision": revision}
        with as_reachable(name if revision else path) as asked:
            if streaming:
                builder = datasets.load_dataset_builder(**{"path": path, **options})
                return HubDataset(path, dict(builder.as_streaming_dataset()), _files(builder))
            splits = datasets.load_dataset(**{"path": path, **options}, trust_remote_code=False)
        return HubDataset(path, dict(splits))
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError, pa.ArrowException) as error:
        if not Path(path).exists() and _refused(error):
            at = f" or no revision {revision!r} of it" if revision else ""
            raise DataError(
                f"data.path {path!r}: no such file, and the hub shows no such dataset{at}: check the spelling; a "
                "private or gated one needs `hf auth login` (or HF_TOKEN) with an account that was given access"
            ) from error
        reason = (
            shorten(error.__cause__ or error, 160) if asked else "the hub does not answer, and it is not in the cache"
        )
        raise DataError(
            f"data.path {path!r}: no such file, and it could not be loaded as a dataset id or folder ({reason}): "
            "check the spelling, or download it first and give the local path"
        ) from error


def _check_place(path: str) -> None:
    """Raise DataError for what is no file and no folder and, by its form, cannot be the name of a dataset."""
    place = Path(path).expanduser()
    if place.exists():
        return
    endings = SUFFIXES.intersection(suffix.lower() for suffix in place.suffixes)
    if endings or path.startswith((".", "/", "~")) or path.count("/") > 1:
        there = [one.name for one in place.parent.iterdir()] if place.parent.is_dir() else []
        at = "" if place.is_absolute() else f" in {Path.cwd()}"
        meant = did_you_mean(place.name, there)
        raise DataError(f"data.path {path!r}: no such file or folder{at}{meant}: check the spelling")


def _files(builder: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the files of each split, those of the hub with their commit, local ones with when they were written."""
    found = builder.config.data_files or {}
    return {
        str(split): [(name, repr(origin)) for name, origin in zip(files, files.origin_metadata, strict=True)]
        for split, files in found.items()
    }


def _refused(error: BaseException) -> bool:
    """Tell whether the hub answered that there is nothing to see: it says so of what is private, too."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    chain, one = list[BaseException](), error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__  # type: ignore[assignment]
    codes = [e.response.status_code for e in chain if isinstance(e, HfHubHTTPError) and e.response is not None]
    return isinstance(error, DatasetNotFoundError) or any(code in (401, 403, 404) for code in codes)


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
