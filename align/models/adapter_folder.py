"""Adapter folders of PEFT: loaded once, every weight of them, or refused with the reason."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import peft
import torch
from torch import nn

from align.errors import ModelError, shorten
from align.models.adapters import has_adapters
from align.models.folder_checks import ADAPTER_CONFIG, check_safetensors, read_json
from align.models.sizes_only import sizes_only
from align.models.whole import listed

ADAPTER_WEIGHTS = "adapter_model.safetensors"
MEGATRON = "megatron.core"
"""What PEFT writes into every LoRA configuration, and reads where megatron_config is set."""
REFERENCE_ADAPTER = "reference"
"""Name of the frozen copy of the adapter a run starts from."""
STARTS_TRAINED = "starts_trained"
"""Attribute of a model that goes on from a trained adapter: its base is not where it starts."""


def check_adapter_folder(folder: Path, task: str | None = None, *, weights: bool = True) -> dict[str, Any]:
    """Return the configuration of an adapter folder. Raises ModelError for one that cannot be loaded, with the reason.

    `task` is the kind of model the adapter must be for, in PEFT's word; null takes any. Without `weights` none are
    looked for.
    """
    config = read_json(folder / ADAPTER_CONFIG)
    if weights:
        if not (folder / ADAPTER_WEIGHTS).exists():
            raise ModelError(f"adapter {folder}: no {ADAPTER_WEIGHTS} (pickled weights are not read): convert it")
        check_safetensors(folder / ADAPTER_WEIGHTS)
    if task is not None and config.get("task_type") not in (None, task):
        raise ModelError(f"adapter {folder}: an adapter for {config['task_type']}, expected one for {task}")
    if reason := _foreign(config) or _reason(config):
        raise ModelError(f"adapter {folder}: {reason}")
    return config


def changes_base(config: dict[str, Any]) -> bool:
    """Tell whether PEFT takes the adapter's start out of the base weights whenever it adds the adapter."""
    return str(config.get("init_lora_weights")).lower().startswith(("pissa", "olora", "corda", "loftq"))


def with_adapter(model: Any, folder: Path, name: str, *, trained: bool) -> Any:
    """Return the model with an adapter of a folder, read whole, as plain PEFT reads it.

    Raises ModelError naming the weights that the folder lacks or the model has no place for.
    """
    mapping = getattr(model, "_checkpoint_conversion_mapping", None)
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        config.inference_mode = False
        if sizes_only():
            config.init_lora_weights = False  # some starts are computed from the base's values
        if has_adapters(model):
            model.add_adapter(name, config)
            model.set_requires_grad(name)
        else:
            kind = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, peft.PeftModel)
            model = kind(model, config, name)
        if not sizes_only():
            _read(model, folder, name, mapping)
    except ModelError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, ImportError, re.error) as error:
        raise ModelError(f"adapter {folder}: does not fit its base model ({shorten(error, 160)})") from error
    if not trained:
        for parameter in adapter_weights(model, name).values():
            parameter.requires_grad_(False)
    return model


def with_trained_adapter(model: Any, folder: Path) -> Any:
    """Return the model with an adapter to train on, and a frozen copy of it as `reference` where one base can bear two.

    An adapter with biases of the base has no second copy there: the start is then a copy of the model.
    """
    model = with_adapter(model, folder, "default", trained=True)
    add_frozen_copy(model, REFERENCE_ADAPTER)
    setattr(model, STARTS_TRAINED, True)
    return model


def add_frozen_copy(model: Any, name: str) -> bool:
    """Add a frozen copy of the adapter that is trained, and tell whether its base can bear one."""
    config = copy.deepcopy(model.peft_config["default"])
    if config.peft_type != "LORA" or config.bias != "none":
        return False
    config.init_lora_weights = False  # the base has given up the adapter's start already
    model.add_adapter(name, config)
    start = adapter_weights(model, "default")
    for path, parameter in adapter_weights(model, name).items():
        parameter.data = start[path].detach().clone()
        parameter.requires_grad_(False)
    model.set_adapter("default")
    return True


def _foreign(config: dict[str, Any]) -> str | None:
    """Return what PEFT cannot know, or would import from elsewhere; None for an adapter of its own."""
    if config.get("megatron_config") or config.get("megatron_core") not in (None, MEGATRON):
        return "megatron_core names a package that PEFT would import: remove it and megatron_config"
    kind = str(config.get("peft_type"))
    if kind not in [known.value for known in peft.PeftType]:
        return f"peft_type {shorten(kind)!r} is none that PEFT knows: fetch it again, or install a newer peft"
    return None


def _reason(config: dict[str, Any]) -> str | None:
    """Return why an adapter cannot be loaded exactly, None where it can."""
    kind, start = str(config.get("peft_type")), str(config.get("init_lora_weights"))
    plain = "write it as plain LoRA with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)"
    if "PROMPT" in kind or "P_TUNING" in kind or kind in ("PREFIX_TUNING", "CPT", "CARTRIDGE"):
        return (
            f"{kind} puts virtual tokens before the text, and responses are scored without them: expected an adapter "
            "inside the layers, such as LoRA"
        )
    if kind == "POLY":
        return "POLY asks for the task of every row, and data name none: expected an adapter that acts on every token"
    if kind == "XLORA" or config.get("alora_invocation_tokens"):
        return f"{kind} decides by the text which of its weights act: expected an adapter that acts on every token"
    if start.startswith("corda"):
        return f"init_lora_weights {start!r} needs covariances that the folder does not hold: {plain}"
    if start.startswith("pissa_niter"):
        return f"init_lora_weights {start!r} draws at random, so its base weights are other ones every time: {plain}"
    return None


@torch.no_grad()
def _read(model: Any, folder: Path, name: str, mapping: dict[str, str] | None) -> None:
    """Read the weights; what the folder lacks stays NaN, which no weight is."""
    trained = {path: own for path, own in adapter_weights(model, name).items() if own.requires_grad}
    for parameter in trained.values():
        parameter.fill_(torch.nan)
    device = str(next(model.parameters()).device)
    try:
        result = model.load_adapter(str(folder), name, is_trainable=True, torch_device=device, key_mapping=mapping)
    except KeyError as error:  # what PEFT says of a copied layer that the folder lacks
        raise ModelError(f"adapter {folder}: missing or not a number: {error.args[0]}") from error
    own = adapter_weights(model, name)
    missing = [path for path in trained if bool(own[path].isnan().any())]
    faults = listed("missing or not a number", missing) + listed("unexpected", result.unexpected_keys)
    if faults:
        raise ModelError(
            f"adapter {folder}: its weights are not those of its {ADAPTER_CONFIG} on its base ({'; '.join(faults)}): "
            "fetch it again, or give the base it was trained on"
        )


def adapter_weights(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Return the weights an adapter brings, by their name without the adapter's."""
    config: Any = model.peft_config[name]  # type: ignore[index]
    biases = getattr(config, "bias", "none") != "none"
    found = {}
    for path, parameter in model.named_parameters():
        parts = path.split(".")
        if name in parts:
            found[".".join(part for part in parts if part != name)] = parameter
        elif biases and parts[-1] == "bias" and parameter.requires_grad:
            found[path] = parameter
    return found
