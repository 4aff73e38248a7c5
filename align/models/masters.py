"""Weights that are trained are kept in float32: an update of 16-bit weights at usual rates rounds to nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from align.errors import ConfigError
from align.models.adapters import has_adapters
from align.models.backbone import Backbone
from align.models.folder_checks import ADAPTER_CONFIG, read_json
from align.scoring.decoder import unwrapped

SHORT = (torch.bfloat16, torch.float16)


def trains_base(backbone: Backbone, adapter: Path | None) -> bool:
    """Tell whether training changes weights of the base itself: all of them, its biases, or copies of its layers."""
    if adapter is None and backbone.lora is None:
        return True
    config = {} if adapter is None else read_json(adapter / ADAPTER_CONFIG)
    asked = backbone.lora.modules_to_save if adapter is None and backbone.lora else config.get("modules_to_save")
    return config.get("bias", "none") != "none" or bool(set(asked or []) - {"score", "classifier"})


def built_as(backbone: Backbone, adapter: Path | None, *, masters: bool) -> Backbone:
    """Return the backbone as its weights are read: in float32 where they are trained and a 16-bit dtype is named."""
    wide = masters and trains_base(backbone, adapter) and backbone.torch_dtype in SHORT
    return replace(backbone, dtype="float32") if wide else backbone


def make_masters(model: Any, backbone: Backbone) -> None:
    """Make float32 of a model that is trained whole; the 16-bit dtype it was asked in is remembered for the export."""
    dtype = model.dtype if backbone.dtype == "auto" else backbone.torch_dtype
    if dtype in SHORT:
        model.asked_dtype = dtype
        model.float()


def raise_heads(model: nn.Module) -> None:
    """Make float32 of a trained reward head beside adapters, which is read in float32 in any case."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in SHORT:
            parameter.data = parameter.data.float()


def check_precision(model: nn.Module, backbone: Backbone, precision: str, *, kahan: bool) -> None:
    """Say where weights are trained in another dtype than was asked for.

    Raises ConfigError where trained weights would be rounded to 16 bits by an optimiser that loses what is cut off, and
    for one that keeps it where nothing is cut off.
    """
    if precision in ("bf16-true", "16-true"):
        raise ConfigError(
            f"trainer.precision {precision} rounds trained weights to 16 bits, where updates are lost: set "
            f"{precision.replace('true', 'mixed')} (or backbone.dtype bfloat16 with optimizer.kahan)"
        )
    short = any(p.requires_grad and p.dtype in SHORT for p in model.parameters())
    if kahan and not short:
        raise ConfigError(
            f"optimizer.kahan is for 16-bit weights, and what is trained has more (dtype {backbone.dtype}): set "
            "backbone.dtype bfloat16 without backbone.lora, or leave optimizer.kahan out"
        )
    if (asked := asked_dtype(unwrapped(model))) is not None:
        name = str(asked).removeprefix("torch.")
        written = f"and exports written in {name}", ", optimizer.kahan trains 16-bit weights as they are"
        if has_adapters(model):
            written = f"and so are adapters and copies of layers in exports, {name} is for merged ones", ""
        rank_zero_info(
            f"backbone.dtype {backbone.dtype}: weights that are trained are kept in float32, {written[0]}; "
            f"trainer.precision bf16-mixed computes in 16 bits{written[1]}"
        )


def asked_dtype(model: Any) -> torch.dtype | None:
    """Return the 16-bit dtype of a model whose weights are trained in float32, None for any other."""
    found: torch.dtype | None = getattr(model, "asked_dtype", None)
    return found
