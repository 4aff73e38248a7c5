"""Adapters that start as the principal part of the base's weights, which give it up (PiSSA).

Meng et al. 2024, arXiv:2404.02948, Eqs. 2-4: W = U S V' is kept as W - scaling B_0 A_0 with B_0 A_0 scaling the r
largest singular values, and A, B are trained from A_0, B_0. PEFT computes it. A frozen copy of the start stays as the
reference: the policy as the run begins, and what exports subtract, so that they are plain LoRA on the base as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from align.errors import ConfigError, ModelError
from align.models.adapter_folder import ADAPTER_WEIGHTS, REFERENCE_ADAPTER, STARTS_TRAINED, add_frozen_copy
from align.models.merging import TOLERANCE, scores
from align.models.sizes_only import sizes_only

PRINCIPAL_START = "principal_start"
"""Attribute of a model whose base has given up what its reference adapter holds."""
SETTING = "backbone.lora.init_lora_weights"
SEED = 0
"""What pissa_niter draws from: a run that goes on has the same base."""


def with_principal_start(model: Any, config: peft.LoraConfig, *, check: bool) -> Any:
    """Return the model under adapters that start in its weights, the start beside them as `reference`.

    `check` compares a row before and after: layers that read their weight without their adapter would show.

    Raises ConfigError for layers and a dtype that have no such start, ModelError for a model that it would change.
    """
    if any(weight.dtype == torch.float64 for weight in model.parameters()):
        raise ConfigError(
            f"{SETTING} {config.init_lora_weights}: PEFT takes singular values of weights of 16 and 32 bits, these "
            "have 64: set backbone.dtype float32, or leave it out"
        )
    if sizes_only():
        config.init_lora_weights = False
        adapted: Any = peft.get_peft_model(model, config)
    else:
        row = torch.arange(64)[None] * 7919 % model.get_input_embeddings().num_embeddings
        expected = scores(model, row) if check else None
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            adapted = peft.get_peft_model(model, config)
        _check_layers(adapted, config)
        if expected is not None:
            _check_same(float((scores(adapted, row) - expected).abs().max()), config)
    add_frozen_copy(adapted, REFERENCE_ADAPTER)
    setattr(adapted, STARTS_TRAINED, True)
    setattr(adapted, PRINCIPAL_START, True)
    return adapted


def starts_principal(model: nn.Module) -> bool:
    """Tell whether a model's base has given up the start of its adapters."""
    return bool(vars(model).get(PRINCIPAL_START, False))


def start_weights(module: nn.Module) -> list[nn.Parameter]:
    """Return the starts of all models in a module: without them the base they were taken out of is not known."""
    return [weight for _, layer in _layers(module) for weight in _start(layer).values()]


@torch.no_grad()
def take_start(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Give every base up the start that a checkpoint holds, in place of the one that was computed here.

    Singular vectors of another machine or number of threads differ in the last digits, and so would the model.
    """
    for path, layer in _layers(module):
        given = {name: saved[f"{path}.{name}"] for name in _start(layer)}
        if all(torch.equal(own, given[name].to(own.device)) for name, own in _start(layer).items()):
            continue
        before = layer.get_delta_weight(REFERENCE_ADAPTER)
        for name, own in _start(layer).items():
            own.copy_(given[name])
        layer.get_base_layer().weight.add_(before - layer.get_delta_weight(REFERENCE_ADAPTER))


def save_plain(model: Any, folder: Path) -> None:
    """Write the adapter as plain LoRA on the base as it was: [A; A_0] and [B, -B_0], of twice the rank."""
    model.save_pretrained(str(folder), selected_adapters=["default"])
    start = {name: weight for path, layer in _layers(model) for name, weight in _named(path, layer)}
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    for name, weight in start.items():
        first = weight.detach().cpu()
        down = ".lora_A." in name
        tensors[name] = torch.cat([tensors[name], first if down else -first], 0 if down else 1)
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = peft.PeftConfig.from_pretrained(str(folder))
    config.init_lora_weights = True
    config.lora_alpha *= math.sqrt(2) if config.use_rslora else 2
    config.r *= 2
    config.save_pretrained(str(folder))


def _layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the adapted layers of all models that start so, by their path in a module."""
    for place, model in module.named_modules():
        if starts_principal(model):
            for path, layer in model.named_modules(prefix=place):
                if isinstance(layer, LoraLayer):
                    yield path, layer


def _start(layer: Any) -> dict[str, nn.Parameter]:
    names = ("lora_A", "lora_B")
    return {f"{name}.{REFERENCE_ADAPTER}.weight": getattr(layer, name)[REFERENCE_ADAPTER].weight for name in names}


def _named(path: str, layer: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the start of a layer by the names that PEFT writes."""
    for name, weight in _start(layer).items():
        yield f"{path}.{name.replace(f'.{REFERENCE_ADAPTER}.', '.')}", weight


def _check_layers(model: Any, config: peft.LoraConfig) -> None:
    """Raise ConfigError for a layer whose weight is rounded, read elsewhere too, or not that of a linear layer."""
    named = f"{SETTING} {config.init_lora_weights}"
    places: dict[int, int] = {}
    for _, weight in model.named_parameters(remove_duplicate=False):
        places[id(weight)] = places.get(id(weight), 0) + 1
    for path, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        base: Any = layer.get_base_layer()
        if "default" not in layer.lora_A:
            raise ConfigError(f"{named} is for linear layers, and {path} is a {type(base).__name__}: leave it out")
        if base.weight.dtype != torch.float32:
            kind = str(base.weight.dtype).removeprefix("torch.")
            raise ConfigError(
                f"{named} changes the base's weights, which {kind} would round to another model: set backbone.dtype "
                "float32 (trainer.precision bf16-mixed computes in 16 bits)"
            )
        if (found := layer.lora_A["default"].weight.shape[0]) < config.r:
            raise ConfigError(
                f"{named}: {path} has {found} singular values, and backbone.lora.r is {config.r}: lower it"
            )
        if places[id(base.weight)] > 1:
            raise ConfigError(
                f"{named} would change {path} also where its weight is tied to another layer's: leave it out of "
                "backbone.lora.target_modules"
            )


def _check_same(apart: float, config: peft.LoraConfig) -> None:
    if not apart <= TOLERANCE:
        raise ModelError(
            f"{SETTING} {config.init_lora_weights}: the model scores a row {apart:.2g} nats per token (or of reward) "
            f"apart from what it did before (at most {TOLERANCE:g}): a layer reads its weight without its adapter; "
            "leave it out of backbone.lora.target_modules"
        )
