"""Frozen weights under adapters are held in the 16 bits that autocast makes of them, where that loses nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from peft.tuners.lora import LoraLayer
from torch import nn

from align.models.adapters import cast_once
from align.scoring.decoder import unwrapped
from align.scoring.short_linear import ShortLinear

SHORT = "bf16-mixed"
"""The precision under which weights are multiplied in bfloat16."""
STAYS = "stays_as_it_is"
"""Where a model keeps that none of its weights ever changes."""


def cast_less(models: Iterable[nn.Module], precision: str | None) -> None:
    """Take casts out of the calls of layers with adapters: of inputs, and of frozen weights under a precision.

    Shards are gathered in 16 bits anyway: there, and where no Trainer says a precision, weights stay as they are.
    """
    for model in models:
        cast_once(model)
        if precision == SHORT:
            hold_short(model)


@torch.no_grad()
def hold_short(model: nn.Module) -> None:
    """Hold frozen float32 layers in bfloat16: those under adapters, such a model's head, all of a copy that stays.

    Mixed precision multiplies them in it, and autocast casts a frozen weight at every call, for it keeps casts of
    trained ones alone. Only weights of which bfloat16 loses nothing, as of a checkpoint that was written in it, are
    held so: no number changes by a bit. Norms of DoRA are of weights in the dtype of a layer's input, so they stay too.
    """
    adapted = [part for part in model.modules() if isinstance(part, LoraLayer)]
    known = [
        *(part.get_base_layer() for part in adapted),
        *([unwrapped(model).get_output_embeddings()] if adapted else []),
    ]
    layers: list[Any] = [
        layer for layer in (model.modules() if getattr(model, STAYS, False) else known) if _fits(layer)
    ]
    alone = set(map(id, layers))
    shared = {id(own) for part in model.modules() if id(part) not in alone for own in part.parameters(recurse=False)}
    held = [layer for layer in layers if not any(id(own) in shared for own in layer.parameters()) and _exact(layer)]
    for layer in held:
        layer.__class__ = ShortLinear
        for own in layer.parameters():
            own.data = own.data.bfloat16()
    if held:
        saved = sum(own.numel() * 2 for layer in held for own in layer.parameters())
        rank_zero_info(
            f"{len(held)} frozen layers are held in bfloat16, as their checkpoint has them: "
            f"{saved / 2**20:.0f} MiB less, and nothing to cast at every call"
        )


def _fits(layer: Any) -> bool:
    """Tell whether a layer is a plain frozen one in float32."""
    own = list(layer.parameters()) if type(layer) is nn.Linear else []
    return bool(own) and all(p.dtype == torch.float32 and not p.requires_grad and not p.is_meta for p in own)


def _exact(layer: nn.Linear) -> bool:
    return all(torch.equal(own.bfloat16().float(), own) for own in layer.parameters())
