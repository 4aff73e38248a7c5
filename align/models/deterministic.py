"""Switching off what a model draws at random while it trains: dropout, dropped layers, noise in routers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import MethodType
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

Rates = dict[str, float]
"""Probabilities by the path of their setting, such as `text_config.attention_dropout`."""
RESCALED = "rescale_every"
"""RWKV halves its weights in place every so many layers while it evaluates, for float16: adapters would not follow, and
what needs the weights for a gradient or a file finds others."""


NOTED_RATES = "original_dropout"
"""Where a model keeps what its rates were, a part of every copy of it."""


def note_rates(model: nn.Module, rates: Rates) -> None:
    """Keep with a model what its configuration's rates were, for the export."""
    setattr(model, NOTED_RATES, rates)


def noted_rates(model: nn.Module) -> Rates:
    """Return what `note_rates` kept, nothing for a model of which nothing was kept."""
    rates: Rates = getattr(model, NOTED_RATES, {})
    return rates


def switch_off_rates(config: Any, *, dropout: bool = False) -> Rates:
    """Set every dropout of a configuration, nested ones too, to 0 and return what it was, for the export.

    With `dropout` those stay, and only what rescales weights is switched off.
    """
    rates = {path: rate for path, rate in _rates(config, "") if path.endswith(RESCALED) or not dropout}
    set_rates(config, off(rates))
    return rates


def off(rates: Rates) -> Rates:
    """Return the same settings, all 0."""
    return {path: type(rate)(0) for path, rate in rates.items()}


def set_rates(config: Any, rates: Rates) -> None:
    """Write rates into a configuration."""
    for path, rate in rates.items():
        *parents, name = path.split(".")
        owner = config
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, rate)


def _rates(config: Any, prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in list(vars(config).items()):
        if hasattr(value, "model_type"):
            yield from _rates(value, f"{prefix}{name}.")
        elif ("drop" in name and isinstance(value, float)) or name == RESCALED:
            yield prefix + name, value


def make_deterministic(model: nn.Module) -> None:
    """Make a model compute in train mode what it computes in evaluation mode, whatever its configuration said.

    Dropout modules and the rates modules keep are set to 0. Modules that add noise while they train (routers of Mixtral
    and DBRX, which jitter; Phi-3.5-MoE's, which draws its experts) stay in evaluation mode for good.
    """
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
        if _is_noisy(type(module)):
            module.train = MethodType(_stay, module)  # type: ignore[method-assign]
            module.train(False)


def _stay(self: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for `train` of a module: its parts follow, itself does not."""
    nn.Module.train(self, mode)
    self.training = False
    return self


def _is_noisy(kind: type[nn.Module]) -> bool:
    """Tell whether a module of transformers draws random numbers while it trains, beside dropout."""
    if not kind.__module__.startswith("transformers."):
        return False
    forward = inspect.getsource(kind.forward)
    return "self.training" in forward and re.search("jitter|noise|uniform_|gumbel", forward) is not None
