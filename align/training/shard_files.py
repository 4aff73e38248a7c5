"""The tensors of a checkpoint as one file per process: written, hashed, found, read back by any number of processes.

A checkpoint `NAME.ckpt` is a small file that names its shards, with their sizes and hashes; they lie beside it in
`NAME-XXXXXXXX.shards`, in the format of `torch.distributed.checkpoint`. Replacing the small file makes it.
"""

from __future__ import annotations

import glob
import pickle
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, StorageMeta
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict, load
from torch.distributed.checkpoint.state_dict_saver import save

from align.errors import ResumeError
from align.files import file_hash
from align.training.optimizer_names import numbered

SHARDS = "shards"
"""Where a checkpoint's small file keeps folder and files of its tensors."""
ENDING = ".shards"
KNOWN = ("torch.distributed.checkpoint.", "torch.distributed.tensor.", "torch.serialization", "torch._utils", "pathlib")
"""Modules whose classes the index of the shards consists of."""
Files = dict[str, list[Any]]
"""Size and SHA-256 by name."""


class _IndexUnpickler(pickle.Unpickler):
    """Reads the index, which torch pickles, without running code of others."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class of the index. Raises UnpicklingError for anything else."""
        kind = getattr(torch, name, None) if module == "torch" else None
        plain = isinstance(kind, torch.dtype | torch.layout | torch.memory_format) or kind in (torch.Size, torch.device)
        if plain or (module.startswith(KNOWN) and "." not in name):
            return super().find_class(module, name)
        if module in ("builtins", "collections") and name in ("set", "dict", "list", "tuple", "slice", "OrderedDict"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an index of shards")


class SafeReader(FileSystemReader):
    """Reads shards of tensors and nothing else. Raises ResumeError for an index that holds anything else."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the index."""
        path = Path(self.path) / ".metadata"
        try:
            with path.open("rb") as file:
                index: Metadata = _IndexUnpickler(file).load()
        except (pickle.UnpicklingError, EOFError, AttributeError, ValueError) as error:
            raise ResumeError(f"checkpoint shards {self.path}: the index is not one of ours ({error})") from error
        if any(isinstance(entry, BytesStorageMetadata) for entry in index.state_dict_metadata.values()):
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
    save(state, storage_writer=FileSystemWriter(part), process_group=group)
    rank = dist.get_rank(group)
    own = sorted(part.glob(f"__{rank}_*")) + ([part / ".metadata"] if rank == 0 else [])
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
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError):  # damaged: nobody knows what it named
            continue
        if named is None or named["folder"] != left.name:
            shutil.rmtree(left)
