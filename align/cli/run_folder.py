"""The run folder: one process at a time, one run, and going on with a run that was cut off."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any, cast

import yaml
from filelock import FileLock, Timeout

from align.cli.launch import is_first_process, may_come_back
from align.cli.yaml_check import check_yaml, read_settings
from align.errors import ConfigError, ResumeError, StoreError, shorten
from align.evaluation.run_log import FINISHED
from align.evaluation.settings_diff import flat
from align.files import atomic_write_text, remove_leftovers
from align.training.checkpoint_io import fault_of, newest_whole

MAY_CHANGE = {
    *("ckpt_path", "trainer.default_root_dir", "check", "model.init_args.backbone.check", "push_to_hub", "public")
}
"""Settings that change no weight: where a run begins, where its folder lies, what is checked, where the model goes."""
MAY_MOVE = re.compile(
    r"trainer\.callbacks\.\d+\.init_args\.engine\.(init_args\.)?"
    r"(urls|api_key_env|concurrency|timeout|patience|most_difference|gpu_memory_utilization|sleep|options)\b"
)
"""Settings of what samples from the policy: which servers, how long they are waited for, and its share of a GPU."""
MAY_BEAR = re.compile(r"trainer\.callbacks\.\d+\.init_args\..*\bscorers?\b.*\.(on_error|time_limit|batch_size)$")
"""How a reward function is called, and what is done where it fails: no score depends on it."""
PRECISION, UNSETTLED = "trainer.precision", "32-true"
"""What a run computed in whose settings leave it open: one of an older version, without a GPU that has bfloat16."""
LOCK, OWNER, CONFIG = ".lock", ".owner.json", "config.yaml"
SAVER = "align.callbacks.checkpoint.Checkpoint"
LEASE = 100.0
"""Seconds for which a file server keeps the lock of a machine that is lost (NFS 4 has 90)."""


_held: list[FileLock] = []


def claim(root: Path) -> None:
    """Lock a run folder until `release`, or the end of this process.

    Raises StoreError when another process has it, ConfigError when there can be no such folder.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--trainer.default_root_dir {shorten(root, 200)}: cannot be made ({error.strerror}): choose a folder that "
            "can be written"
        ) from error
    lock, owner = FileLock(root / LOCK), root / OWNER
    try:
        _acquire(lock, owner, LEASE if may_come_back() and (root / CONFIG).exists() else 0)
    except Timeout as error:
        raise StoreError(
            f"run folder {root} is in use by {_holder(owner)}: wait for it, or choose "
            "another --trainer.default_root_dir"
        ) from error
    owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    _held.append(lock)
    remove_leftovers(root)


def _acquire(lock: FileLock, owner: Path, patience: float) -> None:
    """Take a lock, that of a process that is lost when it is free. Raises Timeout."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not patience:
            raise
        print(f"waiting up to {patience:.0f} s for {_holder(owner)}, which has the run folder or was lost with it")
        lock.acquire(timeout=patience)


def _holder(owner: Path) -> str:
    try:
        found = json.loads(owner.read_text())
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, LookupError, TypeError):  # it is written after the lock is taken
        return "another process"


def release() -> None:
    """Unlock the run folders of this process."""
    while _held:
        _held.pop().release()


def checkpoint_to_go_on_from(root: Path, settings: dict[str, Any]) -> str | None:
    """Return the checkpoint of the run in this folder, None for a new run.

    Raises ConfigError for a finished run, ResumeError for one with other settings or a damaged checkpoint.
    """
    config, last = root / CONFIG, checkpoint_folder(root, settings) / "last.ckpt"
    if (root / FINISHED).exists():
        raise ConfigError(
            f"run folder {root} holds a finished run: choose another --trainer.default_root_dir, or remove it"
        )
    if not config.exists():
        return None
    saved, now = flat(saved_settings(root)), flat(settings)
    if saved.get(PRECISION) is None and now.get(PRECISION) is not None:
        saved[PRECISION] = UNSETTLED
    fixed = (saved.keys() | now.keys()) - MAY_CHANGE
    fixed = {k for k in fixed if not any(open_.match(k) for open_ in (MAY_MOVE, MAY_BEAR))}
    changed = sorted(k for k in fixed if saved.get(k) != now.get(k))
    if changed:
        key = changed[0]
        kept = f"or go on regardless with --ckpt_path {last}" if last.exists() else "or remove it, it has no checkpoint"
        raise ResumeError(
            f"run folder {root} holds a run with other settings: --{key} was {saved.get(key)!r} and is "
            f"{now.get(key)!r} now ({len(changed)} differ): choose another --trainer.default_root_dir, {kept}"
        )
    if last.exists():
        check_whole(str(last))
    if is_first_process():
        print(f"going on with the run in {root}" + ("" if last.exists() else f", from its start: no {last} yet"))
    return str(last) if last.exists() else None


def saved_settings(root: Path) -> dict[str, Any]:
    """Return the settings a run has saved. Raises ConfigError where there are none, ResumeError for damaged ones."""
    path = root / CONFIG
    if not path.exists():
        raise ConfigError(f"run folder {root}: no {CONFIG}, so this is not a run")
    try:
        text = read_settings(path, f"config {path}")
        check_yaml(text, f"config {path}")
        found = yaml.safe_load(text)
    except (ConfigError, yaml.YAMLError) as error:
        raise ResumeError(f"run folder {root}: its settings are damaged ({error}): put {CONFIG} back") from error
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("class_path"), str):
        raise ResumeError(
            f"run folder {root}: its settings are damaged ({CONFIG} names no model): put it back, or choose another "
            "folder"
        )
    return cast("dict[str, Any]", found)


def checkpoint_folder(root: Path, settings: dict[str, Any]) -> Path:
    """Return where a run with these settings keeps its checkpoints: beside them, unless its `Checkpoint` says where."""
    callbacks = (settings.get("trainer") or {}).get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    named = [c for c in callbacks if isinstance(c, dict)]
    savers = [c.get("init_args") or {} for c in named if c.get("class_path") == SAVER]
    given = savers[-1].get("dirpath") if savers else None  # the last one counts
    return Path(given) if given else root / "checkpoints"


def save_settings(root: Path, text: str) -> None:
    """Write the settings of a run, whole or not at all."""
    root.mkdir(parents=True, exist_ok=True)
    atomic_write_text(root / CONFIG, text)


def check_whole(given: str) -> None:
    """Check a checkpoint before anything is built; sharding strategies read it without looking at our note.

    Raises ConfigError for a missing one, ResumeError for a damaged one.
    """
    checkpoint = Path(given)
    if not given or not checkpoint.is_file():
        raise ConfigError(f"--ckpt_path {given!r}: no such file; runs keep theirs in RUN/checkpoints")
    if fault := fault_of(checkpoint):
        raise ResumeError(
            f"checkpoint {checkpoint} is damaged ({fault}): go on from the newest whole one with --ckpt_path "
            f"{newest_whole(checkpoint.parent) or '(none is left: remove the folder)'}"
        )


def mark_finished(root: Path, step: int) -> None:
    """Note that a run has come to its end."""
    atomic_write_text(root / FINISHED, json.dumps({"step": step}))
