"""Checkpoint files that are whole or absent: written beside their place, synced, renamed, with a note to check them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from align.errors import ResumeError, StoreError, shorten


class WholeCheckpoints(TorchCheckpointIO):
    """Writes under a temporary name in the same folder, syncs, renames, and puts a note of size and hash beside it.

    Loading compares file and note and never runs code from the file (`weights_only=True`).
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint. Raises StoreError when it cannot be written; the one that was there stays whole."""
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(f".{final.name}.{os.getpid()}.part")
        try:
            _check_space(final)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            note = _note_of(part, checkpoint)
            note_part = part.with_suffix(".json.part")
            _write_synced(note_part, json.dumps(note))
            os.replace(part, final)  # a kill between the two leaves a whole file with an older note: see `fault_of`
            os.replace(note_part, note_path(final))
            _sync_folder(final.parent)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            part.unlink(missing_ok=True)
            part.with_suffix(".json.part").unlink(missing_ok=True)
            free = shutil.disk_usage(final.parent).free
            raise StoreError(
                f"checkpoint {final} not written: {shorten(error, 120)} (free {free / 2**20:.0f} MiB): make room, then "
                "give the same command again; checkpoints written before are whole"
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint. Raises ResumeError for a damaged one, naming the newest whole one beside it."""
        if fault := fault_of(Path(path)):
            whole = newest_whole(Path(path).parent)
            advice = f"the newest whole one is {whole}" if whole else "no whole one is beside it"
            raise ResumeError(f"checkpoint {path} is damaged ({fault}): {advice}")
        try:
            loaded: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        except Exception as error:
            raise ResumeError(f"checkpoint {path}: not one of ours ({shorten(error, 160)})") from error
        return loaded

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint and its note."""
        super().remove_checkpoint(path)
        note_path(Path(path)).unlink(missing_ok=True)


def write_whole(strategy: Any, folder: Path) -> None:
    """Let a strategy write whole checkpoints unless it has a writer of its own; remove what killed runs left behind."""
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = WholeCheckpoints()
        if strategy.is_global_zero:
            remove_leftovers(folder)


def note_path(checkpoint: Path) -> Path:
    """Return where the note of a checkpoint is."""
    return checkpoint.with_suffix(".json")


def fault_of(path: Path) -> str:
    """Return what is wrong with a checkpoint file, or nothing. A file newer than its note is judged by reading it."""
    if not path.exists():
        return "no such file"
    size = path.stat().st_size
    note = note_path(path)
    stored = json.loads(note.read_text()) if note.exists() else {}
    if stored and stored["bytes"] == size and stored["sha256"] == _hash(path):
        return ""
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # whatever torch says of a broken or foreign file
        return f"{size} bytes, {shorten(error, 100)}"
    if stored and note.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        return f"{size} bytes, its note says {stored['bytes']} bytes and another hash"
    return ""


def newest_whole(folder: Path) -> Path | None:
    """Return the whole checkpoint of a folder with the most steps, or None."""
    found = sorted(folder.glob("*.ckpt"), key=lambda p: p.stat().st_mtime_ns, reverse=True) if folder.is_dir() else []
    return next((path for path in found if not fault_of(path)), None)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that are gone."""
    for part in folder.glob(".*.part") if folder.is_dir() else []:
        owner = next((piece for piece in reversed(part.name.split(".")) if piece.isdigit()), "0")
        if not psutil.pid_exists(int(owner)) or int(owner) == os.getpid():
            part.unlink(missing_ok=True)


def _note_of(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any]:
    ours = checkpoint.get("align", {})
    return {
        "bytes": path.stat().st_size,
        "sha256": _hash(path),
        "step": checkpoint.get("global_step"),
        "epoch": checkpoint.get("epoch"),
        "method": ours.get("method"),
        "fingerprint": ours.get("fingerprint"),
    }


def _check_space(final: Path) -> None:
    """Raise OSError when twice the size of the last checkpoint does not fit."""
    last = final.stat().st_size if final.exists() else 0
    free = shutil.disk_usage(final.parent).free
    if free < 2 * last:
        raise OSError(f"no space left: needs about {2 * last / 2**20:.0f} MiB")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
