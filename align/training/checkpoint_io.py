"""Checkpoint files that are whole or absent: written beside their place, synced, renamed, with a note to check them."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from align.errors import ConfigError, ResumeError, StoreError, shorten
from align.files import HashingWriter, atomic_file, atomic_write_text, file_hash, remove_leftovers
from align.training.shard_files import ENDING, SHARDS, assembled, missing, remove_orphans, remove_shards, shards_of

PLACES = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a place that cannot be written to, whatever room there is."""
HELD = ("state_dict", "pytorch-lightning_version")
"""What every checkpoint of Lightning has."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes under a temporary name in the same folder, syncs, renames, and puts a note of size and hash beside it.

    Loading compares file and note and never runs code from the file (`weights_only=True`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[Path, str] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint. Raises StoreError when it cannot be written; the one that was there stays whole."""
        final = Path(path)
        written = None
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            check_space(final)
            with atomic_file(final) as part:
                with HashingWriter(part) as written:
                    torch.save(checkpoint, written)
                # A kill between the note and the file leaves the file before, which the note knows too.
                note = _note_of(written, self._hash_before(final), checkpoint)
                atomic_write_text(note_path(final), json.dumps(note))
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            fault = written.fault if written and written.fault else error
            raise StoreError(f"checkpoint {final} not written: {reason_of(fault, final)}") from error
        self._written[final] = written.sha256
        if SHARDS not in checkpoint:  # one process goes on with what several have written
            remove_shards(final)

    def _hash_before(self, final: Path) -> str | None:
        """Return the hash of the file that is about to be replaced."""
        if not final.exists():
            return None
        return self._written.get(final) or file_hash(final)

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, also one in shards. Raises ResumeError for a damaged one, naming the newest whole one."""
        return assembled(self.read(path, map_location), Path(path))

    def read(self, path: Any, map_location: Any, *, mmap: bool = False) -> dict[str, Any]:
        """Load a checkpoint's file without what is in its shards. Raises ResumeError."""
        if fault := fault_of(Path(path)):
            whole = newest_whole(Path(path).parent)
            advice = f"the newest whole one is {whole}" if whole else "no whole one is beside it"
            raise ResumeError(f"checkpoint {path} is damaged ({fault}): {advice}")
        try:
            loaded: dict[str, Any] = torch.load(path, map_location=map_location, mmap=mmap, weights_only=True)
        except Exception as error:
            raise ResumeError(f"checkpoint {path}: not one of ours ({shorten(error, 160)})") from error
        if not isinstance(loaded, dict) or any(key not in loaded for key in HELD):
            raise ResumeError(f"checkpoint {path}: not one of ours (no {', '.join(HELD)} in it)")
        return loaded

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint, its shards and its note."""
        super().remove_checkpoint(path)
        remove_shards(Path(path))
        note_path(Path(path)).unlink(missing_ok=True)


def write_whole(strategy: Any, folder: Path) -> None:
    """Let a strategy write whole checkpoints, and remove what killed runs left behind.

    Raises ConfigError for a writer that somebody else plugged in: what it leaves after a kill is not known.
    """
    writer = type(strategy.checkpoint_io)
    if writer is TorchCheckpointIO:
        strategy.checkpoint_io = AtomicCheckpointIO()
        if strategy.is_global_zero:
            remove_leftovers(folder)
            remove_orphans(folder)
    elif not issubclass(writer, AtomicCheckpointIO):
        raise ConfigError(
            f"plugin {writer.__name__} writes checkpoints in its own way, expected none, so that checkpoints are whole "
            "after a kill: leave it out of --trainer.plugins"
        )


def note_path(checkpoint: Path) -> Path:
    """Return where the note of a checkpoint is."""
    return checkpoint.with_suffix(".json")


def fault_of(path: Path) -> str:
    """Return what is wrong with a checkpoint file, or nothing. A file without a note is judged by reading it."""
    if not path.is_file():
        return "" if path.is_dir() else "no such file"
    size, note = path.stat().st_size, _read_note(path)
    if note is not None:
        whole = file_hash(path) in (note["sha256"], note["before"])
        if not whole:
            return f"{size} bytes, its note says {note['bytes']} bytes and another hash"
    try:
        shards = shards_of(path)
    except Exception as error:  # whatever torch says of a broken or foreign file
        return f"{size} bytes, {shorten(error, 100)}"
    return missing(path, shards) if shards else ""


def newest_whole(folder: Path) -> Path | None:
    """Return the whole checkpoint of a folder with the most steps, or None."""
    found = sorted(folder.glob("*.ckpt"), key=_age, reverse=True) if folder.is_dir() else []
    return next((path for path in found if not fault_of(path)), None)


def _age(path: Path) -> tuple[int, int]:
    """Return steps, then the time of writing; the clock alone may have been set back."""
    return int((_read_note(path) or {}).get("step") or 0), path.stat().st_mtime_ns


def _read_note(path: Path) -> dict[str, Any] | None:
    note = note_path(path)
    try:
        stored: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored


def _note_of(written: HashingWriter, before: str | None, checkpoint: dict[str, Any]) -> dict[str, Any]:
    ours = checkpoint.get("align", {})
    return {
        "bytes": written.size,
        "sha256": written.sha256,
        "before": before,
        "step": checkpoint.get("global_step"),
        "epoch": checkpoint.get("epoch"),
        "method": ours.get("method"),
        "fingerprint": ours.get("fingerprint"),
    }


def check_space(final: Path) -> None:
    """Raise OSError when twice the size of the largest checkpoint beside it does not fit."""
    files = [path.stat().st_size for path in final.parent.glob("*.ckpt") if path.is_file()]
    folders = [sum(path.stat().st_size for path in shards.iterdir()) for shards in final.parent.glob(f"*{ENDING}")]
    largest = max([*files, *folders], default=0)
    if shutil.disk_usage(final.parent).free < 2 * largest:
        raise OSError(errno.ENOSPC, f"no space left (needs about {2 * largest / 2**20:.1f} MiB)")


def reason_of(error: BaseException, final: Path) -> str:
    """Return what kept a checkpoint or a model from being written, and what to do."""
    told = shorten(getattr(error, "strerror", None) or error, 120)
    if not final.parent.is_dir():
        return f"{told}: choose a folder that can be written"
    number = getattr(error, "errno", None) or 0
    mend = {errno.EEXIST: "move it away"} | dict.fromkeys(PLACES, "check the path and its permissions")
    free = "" if number in mend else f" (free {shutil.disk_usage(final.parent).free / 2**20:.1f} MiB)"
    again = "then give the same command again; checkpoints written before are whole"
    return f"{told}{free}: {mend.get(number, 'make room')}, {again}"
