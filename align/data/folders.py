"""The data files of a folder, and the split each belongs to."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from align.errors import DataError

SPLIT_NAMES = {
    "train": ("train", "train_prefs", "train_sft"),
    "val": ("validation", "val", "dev", "eval", "valid"),
    "test": ("test", "test_prefs", "test_sft"),
}
"""Names of files, folders and splits of the hub by the split they are."""
KNOWN = frozenset(name for names in SPLIT_NAMES.values() for name in names)
SUFFIXES = frozenset({".jsonl", ".json", ".ndjson", ".parquet", ".csv", ".tsv"})
ABOUT = frozenset({"dataset_info", "dataset_infos", "dataset_dict", "state", "config", "metadata"})
"""Stems of JSON files that describe data and hold none."""
SHARD = re.compile(r"[-_.]?(\d+[-_]of[-_]\d+|\d+)([-_][0-9a-f]{8,})?$")


def folder_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the data files in a folder and those below it by split.

    A file belongs to the split it is named for, `train.jsonl.gz`, `train-00000-of-00002.parquet`, or else to that of a
    folder, `test/0000.parquet`; all others go by their own name. Raises DataError for what is named like one and is no
    file: reading past it would lose rows.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        inside = path.relative_to(folder)
        if any(part.startswith((".", "_")) for part in inside.parts) or path.is_dir():
            continue
        stem = path.name.split(".")[0]
        if SUFFIXES & {suffix.lower() for suffix in path.suffixes} and stem not in ABOUT:
            if not path.is_file():
                what = "a link to nothing" if path.is_symlink() else "not a regular file"
                raise DataError(f"{path}: {what}, among data files: mend it, or move it away")
            found.setdefault(_split_of(inside, stem), []).append(path)
    return found


def _split_of(inside: Path, stem: str) -> str:
    own = SHARD.sub("", stem)
    if own in KNOWN:
        return own
    return next((part for part in reversed(inside.parts[:-1]) if part in KNOWN), own or "rows")


def of_split(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names that a split goes by, of `train_prefs` and `train_sft` the first: they hold the same rows."""
    found = [name for name in names if name in known]
    preferences = any(name.endswith("_prefs") for name in found)
    return [name for name in found if not (preferences and name.endswith("_sft"))]


@functools.cache
def short_name(path: str) -> str:
    """Return the name of a file, a folder or a hub id without what stands before and behind it."""
    return Path(path).name.split(".")[0] or path
