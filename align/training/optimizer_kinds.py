"""Optimisers of libraries, by their name in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Parameter

from align.errors import ConfigError

if TYPE_CHECKING:
    from align.training.optimizer import Optimizer

STATES = {"adamw": 2.0, "adamw_8bit": 0.508, "lion": 1.0, "lion_8bit": 0.254, "muon": 1.0}
"""Bytes of state for each byte of float32 weights; 8 bits have a scale for every 256."""


def made(settings: Optimizer, trained: list[Parameter], rate: float, *, fused: bool) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name.

    Raises ConfigError for one whose package is missing, or that cannot take these weights.
    """
    shared: dict[str, Any] = {"lr": rate, "weight_decay": settings.weight_decay}
    if settings.optim == "muon":
        return _muon(trained, shared)
    if settings.optim.startswith("lion"):
        return _of_bitsandbytes("Lion8bit" if settings.optim == "lion_8bit" else "Lion", trained, shared)
    shared |= {"betas": (settings.adam_beta1, settings.adam_beta2), "eps": settings.adam_epsilon}
    if settings.optim == "adamw_8bit":
        return _of_bitsandbytes("AdamW8bit", trained, shared)
    return _kahan(trained, shared) if settings.kahan else torch.optim.AdamW(trained, fused=fused, **shared)


def _muon(trained: list[Parameter], settings: dict[str, Any]) -> torch.optim.Optimizer:
    if (other := next((p for p in trained if p.dim() != 2), None)) is not None:
        raise ConfigError(
            f"optimizer.optim muon is for matrices, and a weight of shape {list(other.shape)} is trained: set "
            "backbone.lora, or take adamw"
        )
    return torch.optim.Muon(trained, adjust_lr_fn="match_rms_adamw", **settings)


def _of_bitsandbytes(name: str, trained: list[Parameter], settings: dict[str, Any]) -> torch.optim.Optimizer:
    try:
        import bitsandbytes
    except ImportError as error:
        raise ConfigError(
            f"optimizer.optim {name} needs bitsandbytes: pip install 'align-lm[quantization]' -c constraints.txt"
        ) from error
    found: torch.optim.Optimizer = getattr(bitsandbytes.optim, name)(trained, **settings)
    return found


def _kahan(trained: list[Parameter], settings: dict[str, Any]) -> torch.optim.Optimizer:
    try:
        import optimi
    except ImportError as error:
        raise ConfigError(
            "optimizer.kahan needs torch-optimi: pip install 'align-lm[kahan]' -c constraints.txt"
        ) from error
    optimizer: torch.optim.Optimizer = optimi.AdamW(trained, kahan_sum=True, **settings)
    return optimizer
