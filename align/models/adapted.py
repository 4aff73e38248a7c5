"""A frozen base with several adapters: frozen ones from folders, and fresh ones below a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from transformers.pytorch_utils import Conv1D

from align.activations import decoder_parts
from align.errors import ConfigError, ModelError, shorten
from align.models.adapter_folder import changes_base, check_adapter_folder, with_adapter
from align.models.adapters import freeze_but, has_adapters
from align.models.backbone import Backbone, LoRA
from align.models.folder_checks import ADAPTER_CONFIG
from align.models.loading import load_policy
from align.models.sizes_only import sizes_only
from align.models.unadapted import is_named, unadapted

USUAL_STAGE = LoRA(r=8, lora_alpha=16)
"""Adapters of a first stage where nothing else is asked for: rank 8 on every linear layer."""
TRAINED = "default"
"""Name of the adapter that is trained; the one exports write."""


def load_bare(backbone: Backbone, tokenizer: Any) -> Any:
    """Return the backbone without adapters. Raises ConfigError for an adapter folder or for dropout in the base."""
    if backbone.dropout:
        raise ConfigError("backbone.dropout: representation methods compare states, so the base must run without it")
    model: Any = load_policy(replace(backbone, lora=None), tokenizer)
    if has_adapters(model):
        raise ConfigError(
            f"backbone.path {backbone.path} is an adapter folder: merge it first with `align export --merge true`"
        )
    return model


def attach(model: Any, folders: Mapping[str, Path]) -> Any:
    """Load adapters by name, frozen. Raises ModelError for one that cannot share its base with others.

    Where sizes are counted and a folder is not there, adapters of the first stage's usual size stand for it.
    """
    for name, folder in folders.items():
        if sizes_only() and not (folder / ADAPTER_CONFIG).exists():
            rank_zero_warn(f"model.stage1: {folder} is not there: counted with rank 8 on every linear layer")
            model = add_trained(model, [name], USUAL_STAGE)
            continue
        if changes_base(check_adapter_folder(folder, "CAUSAL_LM", weights=not sizes_only())):
            raise ModelError(
                f"adapter {folder}: init_lora_weights changes the base, which other adapters share: write it as plain "
                "LoRA with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)"
            )
        model = with_adapter(model, folder, name, trained=False)
    return model


def add_trained(model: Any, names: Sequence[str], lora: LoRA, *, blocks: int | None = None) -> Any:
    """Add fresh adapters that are trained, to the first so many blocks or to all.

    Raises ConfigError for layers that are not there, and for a start that the base would give up.
    """
    if lora.init_lora_weights is not None:
        raise ConfigError(
            f"backbone.lora.init_lora_weights {lora.init_lora_weights} takes the start out of the base, on which "
            f"{', '.join(names)} is not alone: leave it out"
        )
    targets: str | list[str] = lora.target_modules if blocks is None else targets_below(model, lora, blocks)
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM",
        **{**lora.as_peft, "target_modules": targets},
        exclude_modules=(unadapted(model, targets) or None) if blocks is None else None,
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),
    )
    for name in names:
        try:
            if has_adapters(model):
                model.add_adapter(name, settings)
            else:
                model = peft.get_peft_model(model, settings, adapter_name=name)
        except ValueError as error:
            raise ConfigError(f"backbone.lora.target_modules {lora.target_modules!r}: {shorten(error, 160)}") from error
    freeze_but(model, names, names)
    return model


def usual_lora(model: Any) -> LoRA:
    """Return the adapters of RAHF and LoRRA: rank 8 on query and value projections (their released code).

    Raises ConfigError for a model that has none.
    """
    if not (attention := decoder_parts(model).attention):
        raise ConfigError(
            "backbone.lora is null, which takes query and value projections, and the blocks of model type "
            f"{model.config.model_type} have none that are known: set backbone.lora.target_modules, such as all-linear"
        )
    return LoRA(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=list(attention))


def targets_below(model: Any, lora: LoRA, blocks: int) -> list[str]:
    """Return the full names of the linear layers of the first blocks that a LoRA names.

    Layer l reads blocks 0..l-1 only: an adapter in a higher block never gets a gradient.
    """
    inner = model.get_base_model() if has_adapters(model) else model
    path = (parts := decoder_parts(model)).path
    found, left_out = list[str](), unadapted(inner, lora.target_modules)
    for name, part in inner.named_modules():
        if not name.startswith(f"{path}.") or int(name[len(path) + 1 :].split(".")[0]) >= blocks:
            continue
        plain = name.removesuffix(".base_layer")
        if not isinstance(part, (nn.Linear, Conv1D)) or ".lora_" in name or plain in [*found, *left_out]:
            continue
        if is_named(lora.target_modules, plain):
            found.append(plain)
    if not found:
        raise ConfigError(
            f"backbone.lora.target_modules {lora.target_modules!r}: no linear layer of that name in the first {blocks} "
            f"of {len(parts.blocks)} blocks, whose states are read: name others, or set reading.target_layers higher"
        )
    return found
