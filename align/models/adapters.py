"""One frozen model seen in several ways: contexts that switch adapters and modes, and put everything back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


def has_adapters(model: nn.Module) -> bool:
    """Tell whether a model carries PEFT adapters."""
    return hasattr(model, "peft_config")


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
def _restored(model: Any) -> Iterator[None]:
    """Put back which adapters are active and which parameters train, also after an exception."""
    active = list(model.active_adapters)
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        yield
    finally:
        model.base_model.set_adapter(active)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
