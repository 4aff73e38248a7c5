"""Files and folders that are whole or absent (written beside their place, synced, renamed), and their hashes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

MODEL_SUFFIXES = {".json", ".safetensors", ".md", ".jinja", ".model", ".txt"}
"""Endings of the files of a model folder; a folder with others is nobody's to replace."""


@contextmanager
def atomic_folder(final: Path, *, writes: bool = True) -> Iterator[Path]:
    """Give a folder to write into, and put it in place of `final` once it is complete and on disk.

    A kill at any moment leaves `final` as it was, absent, or complete; what killed processes left beside it is removed.
    A model folder that is there already is replaced as a whole.

    Args:
        final: The folder to make.
        writes: False where another process writes for this one: nothing is touched.

    Raises:
        OSError: for a folder that cannot be written; FileExistsError for a file in its place and for a folder of other
            things than a model (FileExistsError). Nothing is left behind.
    """
    final = final.resolve() if final.is_symlink() else final
    part = beside(final, "part")
    if not writes:
        yield part
        return
    check_place(final)
    remove_leftovers(final.parent, f".{final.name}.*.part", f".{final.name}.*.old")
    part.mkdir(parents=True)
    try:
        yield part
        sync_tree(part)
        check_place(final)
        _put(part, final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a file to write beside `path`, and put it in its place once it is complete and on disk.

    The folder is made where it is missing. Raises OSError; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = beside(path, "part")
    try:
        yield part
        sync_folder(part)  # a file is synced through a handle in the same way
        os.replace(part, path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all, for its owner alone; raises OSError."""
    with (
        atomic_file(path) as part,
        os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file,
    ):
        file.write(text)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashingWriter(io.BufferedWriter):
    """A new file with the size and hash of what has been written, and the first error in writing."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.fault: OSError | None = None
        """Kept because torch reports only that a position in the file is not the expected one."""
        self.size = 0
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write and hash."""
        try:
            written = super().write(data)
        except OSError as error:
            self.fault = self.fault or error
            raise
        self._hash.update(data)
        self.size += written
        return written

    @property
    def sha256(self) -> str:
        """Return the hash of what has been written."""
        return self._hash.hexdigest()


def beside(path: Path, ending: str) -> Path:
    """Return a name beside a path for this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.{ending}")


def check_place(final: Path) -> None:
    """Raise FileExistsError where a model folder cannot take this place without destroying something else."""
    if not final.exists():
        return
    if not final.is_dir():
        raise FileExistsError(17, "a file is in the way", str(final))
    foreign = [p for p in final.rglob("*") if p.is_file() and p.suffix not in MODEL_SUFFIXES]
    if foreign:
        raise FileExistsError(17, f"holds other things than a model ({foreign[0].name})", str(final))


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring every file under a folder, and the folders, to disk."""
    for path in [*folder.rglob("*"), folder]:
        sync_folder(path)  # a file is synced through a handle in the same way


def remove_leftovers(folder: Path, *patterns: str) -> None:
    """Remove temporary files and folders of processes that are gone, and of this one; without patterns all of them."""
    for pattern in (patterns or (".*.part",)) if folder.is_dir() else ():
        for left in folder.glob(pattern):
            owner = next((piece for piece in reversed(left.name.split(".")) if piece.isdigit()), "0")
            if psutil.pid_exists(int(owner)) and int(owner) != os.getpid():
                continue
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _put(part: Path, final: Path) -> None:
    old = beside(final, "old")
    if final.exists():
        os.rename(final, old)  # a folder cannot be renamed over one that is not empty
    os.rename(part, final)
    sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)
