"""The module and the data of a run, as callbacks use them."""

from __future__ import annotations

from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from align.data.data_module import PreferenceDataModule
from align.errors import ConfigError
from align.sampling.trained_module import TrainedModule


def module_of(pl_module: LightningModule, callback: Callback) -> TrainedModule:
    """Return a method's module. Raises ConfigError for a module of another kind."""
    if not hasattr(pl_module, "backbone"):
        raise ConfigError(
            f"{_place(callback)} is for align's methods, {type(pl_module).__name__} is none (its base class is not "
            "align.training.base_module.AlignModule): leave it out"
        )
    return cast(TrainedModule, pl_module)


def policy_of(pl_module: LightningModule, callback: Callback) -> TrainedModule:
    """Return a module for a callback that samples. Raises ConfigError where it has nothing to sample from."""
    if not getattr(pl_module, "generates", False):
        raise ConfigError(
            f"{_place(callback)} samples from a policy, {type(pl_module).__name__} has none: leave it out"
        )
    return module_of(pl_module, callback)


def data_of(trainer: Trainer, callback: Callback) -> PreferenceDataModule:
    """Return the data of a run. Raises ConfigError where batches come from elsewhere."""
    data: Any = getattr(trainer, "datamodule", None)
    if not isinstance(data, PreferenceDataModule):
        found = "there is none" if data is None else f"{type(data).__name__} is none"
        raise ConfigError(f"{_place(callback)} needs one of align's data modules, {found}: leave it out")
    return data


def _place(callback: Callback) -> str:
    return f"{type(callback).__module__}.{type(callback).__name__}"
