"""The precision of a run where nothing is said: bfloat16 on a GPU that has it, TF32 for what is left in float32."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info

from align.cli.run_folder import CONFIG, UNSETTLED, saved_settings

CUDA = ("auto", "gpu", "cuda")
FULL = ("32", "32-true", "64", "64-true")
"""Precisions that ask for every bit."""


EVERY = 10
"""Steps between two rows of a log on a GPU, where a step may take less time than the loggers."""


def usual_log_interval(trainer: Any) -> int:
    """Return `trainer.log_every_n_steps` where it is left open: each step has a row on a CPU."""
    return EVERY if _on_gpu(trainer) else 1


def settle_precision(trainer: Any, own: str | None = None) -> None:
    """Set `trainer.precision` where it is left open, and how float32 is multiplied on a GPU, and say so there.

    Args:
        trainer: The settings of the Trainer.
        own: What the run has that is gone on with; it keeps it, also on another device.
    """
    gpu = _on_gpu(trainer)
    if trainer.get("precision") is None and not _plugged(trainer.get("plugins")):
        usual, why = _usual() if gpu else ("32-true", "")
        trainer.precision, why = (own, "as the run that goes on") if own else (usual, why)
        if gpu or own not in (None, "32-true"):
            rank_zero_info(f"precision {trainer.precision}, {why}: --trainer.precision overrules it")
    elif gpu and str(trainer.get("precision")) in FULL:
        rank_zero_info(f"precision {trainer.precision}, as asked: products of float32 in full, without TF32")
    if gpu and str(trainer.get("precision")) not in FULL:
        torch.set_float32_matmul_precision("high")


def _on_gpu(trainer: Any) -> bool:
    return trainer.get("accelerator") in CUDA and torch.cuda.is_available()


def precision_of(root: Path) -> str | None:
    """Return the precision of the run in a folder, None where there is no run or a plugin decides it."""
    if not os.path.exists(root / CONFIG):  # also where the name is too long: making the folder says so
        return None
    trainer = saved_settings(root).get("trainer") or {}
    found = trainer.get("precision") or (None if _plugged(trainer.get("plugins")) else UNSETTLED)
    return None if found is None else str(found)


def _usual() -> tuple[str, str]:
    """Return the usual precision of this process's GPU, and why it is so."""
    if torch.cuda.get_device_capability(int(os.environ.get("LOCAL_RANK", "0"))) >= (8, 0):
        return "bf16-mixed", "as on every GPU that has it, TF32 for what stays float32"
    return "32-true", "this GPU has no bfloat16, 16-mixed is faster"


def _plugged(plugins: Any) -> bool:
    """Tell whether a plugin decides the precision, beside which Lightning takes no setting."""
    given = plugins if isinstance(plugins, list) else [plugins]
    names = [p if isinstance(p, str) else str((p or {}).get("class_path")) for p in given]
    return any("Precision" in name for name in names)
