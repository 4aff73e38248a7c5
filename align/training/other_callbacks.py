"""Callbacks that are not ours: what they keep goes into checkpoints whole, or they are refused or warned of by name."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn

from align.errors import ConfigError, TrainingError

KNOWN = ("align", "lightning")
HOOKS = (
    *("on_train_batch_start", "on_before_backward", "on_after_backward", "on_before_optimizer_step"),
    *("on_before_zero_grad", "on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end"),
)
SAFE = (bool, int, float, str, bytes, type(None), torch.Tensor, torch.dtype, torch.Size, torch.device)


def check_callbacks(callbacks: list[Callback], *, sharded: bool) -> None:
    """Raise ConfigError for a callback that cannot do its work here; warn of one that a killed run begins anew."""
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, StochasticWeightAveraging):
            raise ConfigError(
                f"callback {name} copies the model before it is built, averages nothing, and is not taken up within an "
                "epoch: use lightning.pytorch.callbacks.EMAWeightAveraging, or WeightAveraging for equal weights"
            )
        if sharded and isinstance(callback, WeightAveraging):
            raise ConfigError(
                f"callback {name} cannot average a sharded model: use a strategy such as ddp, or leave it out"
            )
        if attributes := _forgotten(callback):
            rank_zero_warn(
                f"callback {name} has no state_dict, so {', '.join(attributes)} begin anew when a run that was cut off "
                "goes on; it may not end as it would have"
            )


def _forgotten(callback: Callback) -> list[str]:
    """Return the attributes that are no settings of a callback that acts in training and saves nothing."""
    own = type(callback)
    saves = own.state_dict is not Callback.state_dict or own.on_save_checkpoint is not Callback.on_save_checkpoint
    acts = any(getattr(own, hook) is not getattr(Callback, hook) for hook in HOOKS)
    if saves or not acts or own.__module__.split(".")[0] in KNOWN:
        return []
    settings = inspect.signature(own.__init__).parameters
    return [name for name in vars(callback) if name.lstrip("_") not in settings]


def drop_frozen(checkpoint: dict[str, Any], trained: Mapping[str, object]) -> None:
    """Keep the trained parameters only, in the state of the module and in every other state of the same names.

    A callback that averages weights puts the average in place of the module's state, and that beside it.
    """
    names = checkpoint["state_dict"].keys()
    whole = [key for key, value in checkpoint.items() if isinstance(value, dict) and value.keys() == names]
    for key in {"state_dict", *whole}:
        checkpoint[key] = {name: value for name, value in checkpoint[key].items() if name in trained}
    checkpoint["without_frozen"] = [key for key in whole if key != "state_dict"]


def fill_frozen(checkpoint: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Fill in what was dropped where a callback will load a whole state."""
    beside = checkpoint.get("without_frozen", [])
    for key in ["state_dict", *beside] if beside else []:
        checkpoint[key] = {**own, **checkpoint[key]}


def check_loadable(checkpoint: Mapping[str, Any]) -> None:
    """Raise TrainingError for state that could be written but not read again, since reading runs no code."""
    for name, state in checkpoint.get("callbacks", {}).items():
        _check(state, f"the state of callback {name.split('{')[0]}")
    known = ("state_dict", "optimizer_states", "callbacks")
    _check({key: value for key, value in checkpoint.items() if key not in known}, "the checkpoint")


def _check(state: Any, place: str) -> None:
    for value in _leaves(state):
        try:
            file = io.BytesIO()
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:  # whatever pickle says of a class it does not know
            raise TrainingError(
                f"{place} holds a {type(value).__module__}.{type(value).__qualname__}, which no run could go on from: "
                "expected tensors, numbers, text, lists and dictionaries"
            ) from error


def _leaves(state: Any) -> Iterator[Any]:
    """Return what is not known to be safe."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from _leaves(key)
            yield from _leaves(value)
    if isinstance(state, list | tuple | set):
        for value in state:
            yield from _leaves(value)
    plain = type(state) in (dict, list, tuple, set)
    if not plain and not (type(state) in SAFE or isinstance(state, torch.Tensor)):
        yield state
