"""Activations that are computed again in the backward pass instead of being kept: all of a block, or what is cheap."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from align.errors import ConfigError
from align.models.backbone import Backbone

PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
"""What linear layers call."""


def recompute(model: Any, backbone: Backbone) -> None:
    """Let a model do as `backbone.gradient_checkpointing` says.

    Raises ConfigError for `selective` in a compiled decoder, where the compiler chooses what is kept.
    """
    if not backbone.gradient_checkpointing:
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if backbone.gradient_checkpointing == "selective":
        if backbone.compile:
            raise ConfigError(
                "backbone.gradient_checkpointing selective chooses what is kept, and so does the compiler: set it to "
                "true, or leave backbone.compile out"
            )
        options["context_fn"] = partial(create_selective_checkpoint_contexts, keeps)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)


def keeps(_: Any, operator: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
    """Keep what linear layers and attention give: all else of a block costs little to compute again.

    Experts are computed again: what their grouped products give is changed in place by biases.
    """
    costly = operator in PRODUCTS or "attention" in operator.name()
    return CheckpointPolicy.MUST_SAVE if costly else CheckpointPolicy.PREFER_RECOMPUTE
