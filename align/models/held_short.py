"""Frozen weights are held in the 16 bits that mixed precision makes of them, where that loses nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from align.models.adapters import cast_once
from align.models.file_weights import FileWeight
from align.scoring.decoder import unwrapped
from align.scoring.short_linear import ShortLinear

SHORT = "bf16-mixed"
"""The precision under which weights are multiplied in bfloat16."""
CHECKPOINT_DTYPE = "checkpoint_dtype"
"""Where a model keeps in what dtype its configuration says that its weights were written."""
STAYS = "stays_as_it_is"
"""Where a model keeps that none of its weights ever changes."""


def cast_less(models: Iterable[nn.Module], precision: str | None) -> None:
    """Take casts out of the calls of layers with adapters: of inputs, and of frozen weights under a precision.

    Where no Trainer says a precision, weights stay as they are.
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
    FSDP2 shards them as they are held. Weights that are still in their files are not read for it, so those of a file in
    float32 stay; of a model without values its configuration says how it was written.
    """
    adapted = [part for part in model.modules() if isinstance(part, LoraLayer)]
    known = [
        *(part.get_base_layer() for part in adapted),
        *([unwrapped(model).get_output_embeddings()] if adapted else []),
    ]
    layers: list[Any] = [
        layer for layer in (model.modules() if getattr(model, STAYS, False) else known) if _fits(layer)
    ]
    chosen = set(map(id, layers))
    shared = {id(own) for part in model.modules() if id(part) not in chosen for own in part.parameters(recurse=False)}
    alone = [layer for layer in layers if not any(id(own) in shared for own in layer.parameters())]
    held = [layer for layer in alone if all(_is_bfloat16(own, model) for own in layer.parameters())]
    for layer in held:
        layer.__class__ = ShortLinear
        for own in layer.parameters():
            own.data = own.data.bfloat16()
    if held and not held[0].weight.is_meta:
        saved = sum(own.numel() * 2 for layer in held for own in layer.parameters())
        rank_zero_info(
            f"{len(held)} frozen layers are held in bfloat16, as their checkpoint has them: "
            f"{saved / 2**20:.0f} MiB less, and nothing to cast at every call"
        )


def _fits(layer: Any) -> bool:
    """Tell whether a layer is a plain frozen one in float32."""
    own = list(layer.parameters()) if type(layer) is nn.Linear else []
    return bool(own) and all(p.dtype == torch.float32 and not p.requires_grad for p in own)


def _is_bfloat16(own: Tensor, model: nn.Module) -> bool:
    """Tell whether bfloat16 has all values of a weight."""
    if own.is_meta:
        return getattr(unwrapped(model), CHECKPOINT_DTYPE, None) == torch.bfloat16
    if isinstance(own, FileWeight):
        return own.was_written_in(torch.bfloat16)
    return torch.equal(own.bfloat16().float(), own)
