"""What a run on a GPU takes where nothing is said: matrix products in bfloat16, and TF32 for those left in float32."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info

CUDA = ("auto", "gpu", "cuda")
FULL = ("32", "32-true", "64", "64-true")
"""Precisions that ask for every bit."""


def use_gpu(trainer: Any) -> None:
    """Set `trainer.precision` where it is left open, and how float32 is multiplied; does nothing without CUDA."""
    if trainer.get("accelerator") not in CUDA or not torch.cuda.is_available():
        return
    own = int(os.environ.get("LOCAL_RANK", "0"))
    if trainer.get("precision") is None and torch.cuda.get_device_capability(own) >= (8, 0):
        trainer.precision = "bf16-mixed"
        rank_zero_info("precision bf16-mixed, as on every GPU that has it: --trainer.precision 32-true for float32")
    if str(trainer.get("precision")) not in FULL:
        torch.set_float32_matmul_precision("high")
