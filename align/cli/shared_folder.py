"""What the processes of a run must agree on before one of them writes: folder, data, checkpoint to go on from."""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path

from align.distributed import gather, on_first, world_size
from align.errors import ConfigError, ResumeError
from align.training.checkpoint_io import note_path

PATIENCE = 30.0
"""Seconds in which a file that one machine has written must be there for all."""


def check_shared(root: Path) -> None:
    """Raise ConfigError where a process does not see what the first one writes into the run folder.

    A run whose machines have folders of their own would keep its checkpoints on one of them, and begin anew when that
    one is not the first any more.
    """
    if world_size() == 1:
        return
    sign = on_first(lambda: _put(root))
    seen = gather((socket.gethostname(), _appears(root / sign)))
    on_first((root / sign).unlink)
    if blind := [f"rank {rank} on {host}" for rank, (host, found) in enumerate(seen) if not found]:
        raise ConfigError(
            f"run folder {root}: {blind[0]} does not see what rank 0 on {seen[0][0]} writes there ({len(blind)} of "
            f"{len(seen)} processes): name a folder that all machines share with --trainer.default_root_dir"
        )


def _put(root: Path) -> str:
    name = f".seen-{secrets.token_hex(8)}"  # nobody has looked for it, so that no file system remembers its absence
    root.mkdir(parents=True, exist_ok=True)
    (root / name).touch()
    return name


def _appears(path: Path) -> bool:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def check_same_start(root: Path, checkpoint: str | None) -> None:
    """Raise ResumeError where processes would go on from different checkpoints, or one of them would begin anew."""
    starts = gather(_told(checkpoint))
    if odd := next((rank for rank, start in enumerate(starts) if start != starts[0]), None):
        raise ResumeError(
            f"run folder {root}: rank 0 would begin from {starts[0][0]}, rank {odd} from {starts[odd][0]}: their "
            "machines see different files: give the same command again once they see the same"
        )


def check_same_data(fingerprint: str) -> None:
    """Raise ConfigError where processes have read different data, or encoded them in another way."""
    read = gather(fingerprint)
    if odd := next((rank for rank, found in enumerate(read) if found != read[0]), None):
        raise ConfigError(
            f"--data: rank 0 has read data of fingerprint {read[0] or 'none'}, rank {odd} of {read[odd] or 'none'}: "
            "their machines have different files under these names, or another tokenizer: give all the same"
        )


def _told(checkpoint: str | None) -> tuple[str, str]:
    """Return the name of a checkpoint and what tells its contents."""
    if checkpoint is None:
        return "no checkpoint", ""
    note = note_path(Path(checkpoint))
    return checkpoint, note.read_text(encoding="utf-8") if note.is_file() else ""
