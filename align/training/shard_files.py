"""The tensors of a checkpoint as one file per process: written, hashed, found, read back by any number of processes.

A checkpoint `NAME.ckpt` is a small file that names its shards, with their sizes and hashes; they lie beside it in
`NAME-XXXXXXXX.shards`, in the format of `torch.distributed.checkpoint`. Replacing the small file makes it.
"""

from __future__ import annotations

import glob
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    _MEM_FORMAT_ENCODING,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict, load
from torch.distributed.checkpoint.state_dict_saver import save

from align.errors import ResumeError, shorten
from align.files import file_hash
from align.training.optimizer_names import numbered

SHARDS = "shards"
"""Where a checkpoint's small file keeps folder and files of its tensors."""
ENDING = ".shards"
INDEX = "index.pt"
PARTS: list[Any] = [
    *(Metadata, TensorStorageMetadata, ChunkStorageMetadata, TensorProperties, MetadataIndex, StorageMeta),
    *(_StorageInfo, _MEM_FORMAT_ENCODING),
]
"""What an index consists of."""
Files = dict[str, list[Any]]
"""Size and SHA-256 by name."""


class SafeWriter(FileSystemWriter):
    """Writes shards whose index torch reads back without running code of others."""

    def finish(self, metadata: Metadata, results: list[list[Any]]) -> None:
        """Write the index, which torch would pickle."""
        places = {result.index: result.storage_data for written in results for result in written}
        index = replace(metadata, storage_data=places, storage_meta=StorageMeta())
        torch.save(index, Path(self.path) / INDEX)


class SafeReader(FileSystemReader):
    """Reads shards of tensors and nothing else. Raises ResumeError for an index that holds anything else."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the index."""
        try:
            with torch.serialization.safe_globals(PARTS):
                index: Metadata = torch.load(Path(self.path) / INDEX, weights_only=True)
            entries = index.state_dict_metadata.values()
        except Exception as error:  # whatever torch says of a broken or foreign file
            raise ResumeError(
                f"checkpoint shards {self.path}: the index is not one of ours ({shorten(error)})"
            ) from error
        if any(not isinstance(entry, TensorStorageMetadata) for entry in entries):
            raise ResumeError(f"checkpoint shards {self.path}: the index names other things than tensors")
        index.storage_meta = index.storage_meta or StorageMeta()
        index.storage_meta.load_id = self.load_id
        return index


def new_name(checkpoint: Path) -> str:
    """Return a fresh name for the shards of a checkpoint."""
    return f"{checkpoint.stem}-{secrets.token_hex(4)}{ENDING}"


def write_shards(state: dict[str, Any], part: Path, group: Any) -> Files:
    """Write this process's tensors, every process its own, and return this one's files; the first has the index too.

    Raises what `torch.distributed.checkpoint` says, on every process where one of them cannot write.
    """
    save(state, storage_writer=SafeWriter(part), process_group=group)
    rank = dist.get_rank(group)
    own = sorted(part.glob(f"__{rank}_*")) + ([part / INDEX] if rank == 0 else [])
    return {path.name: [path.stat().st_size, file_hash(path)] for path in own}


def fill(state: dict[str, Any], folder: Path, group: Any | None = None) -> None:
    """Read the parts of the tensors in a state that this process holds, in place."""
    load(state, storage_reader=SafeReader(folder), process_group=group, no_dist=not dist.is_initialized())


def assembled(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a checkpoint with the whole tensors of its shards, as one process writes it.

    Raises ResumeError for a shard that is not the one that was written.
    """
    shards = checkpoint.pop(SHARDS, None)
    if shards is None:
        return checkpoint
    if fault := missing(path, shards) or differing(path, shards):
        raise ResumeError(f"checkpoint {path} is damaged: {fault}")
    found: dict[str, Any] = {}
    planner = _EmptyStateDictLoadPlanner()  # type: ignore[no-untyped-call]
    _load_state_dict(found, SafeReader(path.parent / shards["folder"]), planner=planner, no_dist=True)
    groups = [own["param_groups"] for own in checkpoint["optimizer_states"]]
    states = [numbered(found[f"optimizer_{n}"], own) for n, own in enumerate(groups)]
    return {**checkpoint, "state_dict": found["state_dict"], "optimizer_states": states}


def shards_of(checkpoint: Path) -> dict[str, Any] | None:
    """Return what a checkpoint's file says of its shards, None where it holds its tensors itself."""
    stored = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
    found: dict[str, Any] | None = stored.get(SHARDS) if isinstance(stored, dict) else None
    return found


def missing(checkpoint: Path, shards: dict[str, Any]) -> str:
    """Return which shard is not there, or of another size, or nothing."""
    for name, (size, _) in shards["files"].items():
        path = checkpoint.parent / shards["folder"] / name
        if not path.is_file():
            return f"its shard {shards['folder']}/{name} is missing"
        if path.stat().st_size != size:
            return f"its shard {shards['folder']}/{name} has {path.stat().st_size} bytes, expected {size}"
    return ""


def differing(checkpoint: Path, shards: dict[str, Any], rank: int = 0, world: int = 1) -> str:
    """Return which of this process's share of the shards is not the one that was written, or nothing."""
    for name in sorted(shards["files"])[rank::world]:
        if file_hash(checkpoint.parent / shards["folder"] / name) != shards["files"][name][1]:
            return f"its shard {shards['folder']}/{name} is damaged, or of another run: its hash is another"
    return ""


def remove_shards(checkpoint: Path, keep: str | None = None) -> None:
    """Remove the shards of a checkpoint, but those of one name."""
    pattern = f"{glob.escape(checkpoint.stem)}-{'[0-9a-f]' * 8}{ENDING}"
    for folder in checkpoint.parent.glob(pattern):
        if folder.name != keep:
            shutil.rmtree(folder)


def remove_orphans(folder: Path) -> None:
    """Remove shards that no checkpoint names: a process was killed before it wrote one, or after it replaced it."""
    for left in folder.glob(f"*-{'[0-9a-f]' * 8}{ENDING}"):
        checkpoint = folder / f"{left.name[: -len(ENDING) - 9]}.ckpt"
        try:
            named = shards_of(checkpoint) if checkpoint.is_file() else None
        except Exception:  # damaged, in whatever way: nobody knows what it named
            continue
        if named is None or named["folder"] != left.name:
            shutil.rmtree(left)
