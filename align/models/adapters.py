"""One frozen model seen in several ways: contexts that switch adapters and modes, and put everything back.

They stand around every frozen pass of a step, so that nothing in them is as long as the model has parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import MethodType
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

ADAPTED = "adapted_parts"
"""Where a model keeps which of its parts have adapters."""


class _Adapted(NamedTuple):
    """The parts of a model with adapters, as long as it has these."""

    adapters: tuple[tuple[str, int], ...]
    parts: list[Any]


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
    training = [part for part in _parts(model) if part.training]
    _set(training, "training", False)
    try:
        yield
    finally:
        _set(training, "training", True)


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Run the frozen model without its adapters."""
    with _restored(model) as parts:
        _set(parts, "_disable_adapters", True)
        yield


@contextmanager
def adapter_active(model: Any, name: str) -> Iterator[None]:
    """Run with one named adapter; what is trained stays what it was."""
    with adapters_active(model, [name]):
        yield


@contextmanager
def adapters_active(model: Any, names: Sequence[str]) -> Iterator[None]:
    """Run with these adapters at once, none for the bare base; what is trained stays what it was.

    Gradient checkpointing computes again in the backward pass, after this context: only passes without gradient, or
    with the adapters active outside, may use both.
    """
    with _restored(model) as parts:
        if names:
            _activate(model, parts, list(names))
        _set(parts, "_disable_adapters", not names)
        yield


def freeze_but(model: Any, names: Sequence[str], trained: Sequence[str]) -> None:
    """Make adapters active for good, and train only the named ones."""
    model.base_model.set_adapter(list(names))
    for path, parameter in model.named_parameters():
        parameter.requires_grad_(is_of(path, trained))


def is_of(path: str, adapters: Collection[str]) -> bool:
    """Tell whether a parameter's path is that of a LoRA of one of these names; layers may have such a name too."""
    return any(kind.startswith("lora_") and name in adapters for kind, name in pairwise(path.split(".")))


@contextmanager
def _restored(model: Any) -> Iterator[list[Any]]:
    """Give the parts with adapters, and put back which of those are active, also after an exception.

    What PEFT's own calls set is set here without them: they walk the whole model, twice for each context, and change
    what is trained.
    """
    parts = _adapted(model)
    before = [(part, part.active_adapter, part.disable_adapters) for part in parts]
    active = model.base_model.active_adapter
    try:
        yield parts
    finally:
        model.base_model.active_adapter = active
        for part, names, disabled in before:
            vars(part).update(_active_adapter=names, _disable_adapters=disabled)


def _activate(model: Any, parts: Sequence[Any], names: list[str]) -> None:
    model.base_model.active_adapter = names
    for part in parts:
        wraps = isinstance(part, AuxiliaryTrainingWrapper)  # it has one adapter active at most, of those it knows
        vars(part)["_active_adapter"] = [name for name in names if name in part._adapters] if wraps else names


def _adapted(model: Any) -> list[Any]:
    """Return the parts that have adapters, looked for again where adapters have come or gone."""
    adapters = tuple((name, id(config)) for name, config in model.peft_config.items())
    known: _Adapted | None = vars(model).get(ADAPTED)
    if known is None or known.adapters != adapters:
        found = [part for part in _parts(model) if isinstance(part, BaseTunerLayer | AuxiliaryTrainingWrapper)]
        known = vars(model)[ADAPTED] = _Adapted(adapters, found)
    return known.parts


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a model and all its parts, each once: `modules()` passes every one of them up through all levels."""
    seen: set[nn.Module] = set()
    left: list[nn.Module | None] = [model]
    while left:
        part = left.pop()
        if part is not None and part not in seen:
            seen.add(part)
            left += part._modules.values()
            yield part


def _set(parts: Sequence[nn.Module], name: str, value: bool) -> None:
    """Set a flag; an assignment to a module would look through its parameters, buffers and parts first."""
    for part in parts:
        vars(part)[name] = value
