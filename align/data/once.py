"""Work that one process of a machine does while the others wait for it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_info

from align.errors import ConfigError
from align.files import remove_leftovers

PATIENCE = 5.0
"""Seconds of waiting before it is told."""


@contextmanager
def one_at_a_time(folder: Path, key: str, *others: str) -> Iterator[None]:
    """Hold the lock of a cache entry; the system frees it when its holder ends, however that comes about.

    What a killed holder has left of this entry, and of the `others` that are made with it, is removed.
    Raises ConfigError for a folder whose files cannot be locked.
    """
    owner = folder / f"{key}.owner"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{key}.lock")
        _acquire(lock, owner)
    except (OSError, NotImplementedError) as error:
        raise ConfigError(
            f"data.encoding.cache_dir {folder}: cannot be written and locked ({error}): choose a folder on a file "
            "system that can"
        ) from error
    try:
        owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        remove_leftovers(folder, *(f".{made}*.part" for made in (key, *others)))
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, owner: Path) -> None:
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        rank_zero_info(f"data: waiting for {_holder(owner)}, which reads and tokenises the same data")
        lock.acquire()


def _holder(owner: Path) -> str:
    try:
        held = json.loads(owner.read_text())
    except (OSError, ValueError):  # it has yet to write who it is
        return "another process"
    return f"process {held['pid']} on {held['host']}"
