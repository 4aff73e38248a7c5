"""One frozen model seen in several ways: contexts that switch adapters and modes, and put everything back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import Parameter

Flags = list[tuple[Parameter, bool]]


def has_adapters(model: nn.Module) -> bool:
    """Tell whether a model carries PEFT adapters."""
    return hasattr(model, "peft_config")


def cast_once(model: nn.Module) -> None:
    """Leave 16-bit inputs of LoRA layers to autocast where it is on.

    PEFT makes float32 of them first, of which autocast makes the same 16 bits again: a copy that every layer keeps for
    its backward pass. Layers of quantised bases do this by themselves.
    """
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer._cast_input_dtype = MethodType(_cast_unless_autocast, layer)


def _cast_unless_autocast(self: LoraLayer, x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if x is not None and x.dtype in (torch.bfloat16, torch.float16) and torch.is_autocast_enabled(x.device.type):
        return x
    cast: Tensor | None = LoraLayer._cast_input_dtype(self, x, dtype)
    return cast


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch every part to evaluation mode (no dropout), and back to the mode each part was in."""
    training = [part for part in model.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Run the frozen model without its adapters."""
    with _restored(model), model.disable_adapter():
        yield


@contextmanager
def adapter_active(model: Any, name: str) -> Iterator[None]:
    """Run with one named adapter, without making it trainable."""
    with _restored(model):
        model.set_adapter(name, inference_mode=True)
        yield


@contextmanager
def adapters_active(model: Any, names: Sequence[str]) -> Iterator[None]:
    """Run with these adapters at once, none for the bare base; what is trained stays what it was.

    PEFT makes whatever it activates trainable and freezes the rest. Gradient checkpointing computes again in the
    backward pass, after this context: only passes without gradient, or with the adapters active outside, may use both.
    """
    with _restored(model) as flags:
        if names:
            model.base_model.set_adapter(list(names))
        else:
            model.base_model.disable_adapter_layers()
        _restore_flags(flags)
        try:
            yield
        finally:
            if not names:
                model.base_model.enable_adapter_layers()


def freeze_but(model: Any, names: Sequence[str], trained: Sequence[str]) -> None:
    """Make adapters active for good, and train only the named ones."""
    model.base_model.set_adapter(list(names))
    for path, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in path and any(f".{name}." in path for name in trained))


@contextmanager
def _restored(model: Any) -> Iterator[Flags]:
    """Put back which adapters are active and which parameters train, also after an exception."""
    active = list(model.active_adapters)
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        yield flags
    finally:
        model.base_model.set_adapter(active)
        _restore_flags(flags)


def _restore_flags(flags: Flags) -> None:
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
