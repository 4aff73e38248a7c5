"""Metrics that callbacks watch: one that is never logged is told at the start, not at the end of the first epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping

from align.errors import ConfigError, nearest, shorten


def watch(callbacks: Sequence[Callback]) -> Callback:
    """Return what compares the metrics that callbacks watch with those that are logged."""
    return _Monitors(callbacks)


class _Monitors(Callback):
    """Compares what callbacks watch with what is logged, by a validation batch before training and by the first step.

    The trial validation is Lightning's own (`trainer.num_sanity_val_steps`); a resumed run has had it.
    """

    def __init__(self, watching: Sequence[Callback]) -> None:
        self.watched = {type(c).__name__: str(c.monitor) for c in watching if _watches(c)}  # type: ignore[attr-defined]
        self._stepped = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a metric of validation where there is none."""
        self._need_validation(trainer)

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a metric that a validation batch does not give."""
        self._need_validation(trainer)
        self._check(trainer, "val/")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refuse a metric that the first step does not give."""
        if not self._stepped and trainer.global_step > 0:
            self._stepped = True
            self._check(trainer, "train/")

    def _need_validation(self, trainer: L.Trainer) -> None:
        held_out = trainer.enable_validation and sum(trainer.num_val_batches) > 0
        for owner, name in () if held_out else self.watched.items():
            if name.startswith("val/"):
                raise ConfigError(
                    f"--trainer.callbacks {owner}: monitor {name!r} is a metric of validation, and there is none: give "
                    "data with a validation split, or watch a metric of training"
                )

    def _check(self, trainer: L.Trainer, phase: str) -> None:
        there = sorted(trainer.callback_metrics)
        for owner, name in self.watched.items():
            known = name.startswith(("train/", "val/"))
            if name not in there and (name.startswith(phase) or not known):
                raise ConfigError(
                    f"--trainer.callbacks {owner}: no metric is called {name!r}{nearest(name, there)} (there: "
                    f"{shorten(', '.join(there), 200)})"
                )


def _watches(callback: Callback) -> bool:
    """Return whether a callback cannot do without the metric it names."""
    strict = not isinstance(callback, EarlyStopping) or callback.strict
    return bool(getattr(callback, "monitor", None)) and strict
