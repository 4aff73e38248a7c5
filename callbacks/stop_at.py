"""Stops after a number of optimiser steps."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StopAt(Callback):
    """Stops the run at a step; takes the place of `trainer.max_steps`, with which a resumed run ends too early.

    As that does, it goes before `trainer.min_epochs` and `trainer.min_steps`, of which the latter implies an epoch.
    """

    def __init__(self, max_steps: int) -> None:
        """Configure the stop.

        Args:
            max_steps: Optimiser steps of the whole run, resumed or not.
        """
        self.max_steps = max_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the first batch where the run goes on from its last step."""
        self._stop(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop once the steps are done."""
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True
            trainer.fit_loop.min_epochs, trainer.fit_loop.epoch_loop.min_steps = 0, None
