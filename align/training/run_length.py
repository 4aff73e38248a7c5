"""How many optimiser steps a run has, and schedules that have to know."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer

from align.errors import ConfigError
from align.training.optimizer import Optimizer
from align.training.run_data import data_of


def optimiser_steps(trainer: Trainer) -> int:
    """Return how many optimiser steps a run takes in all; 0 where nobody knows, and no schedule asks for it.

    `trainer.estimated_stepping_batches` would build the training loader before a checkpoint's position is known, and
    Lightning would then leave that position out.
    """
    limit, data = _limit(trainer), data_of(trainer)
    if trainer.max_epochs in (None, -1) or (data is not None and data.streaming):
        return limit or 0
    if data is None:
        return int(trainer.estimated_stepping_batches)
    batches, share = len(data.train_dataloader()), trainer.limit_train_batches
    batches = min(batches, share) if isinstance(share, int) else int(batches * share)
    steps = math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs
    return int(min(steps, limit or steps))


def check_length(trainer: Trainer, optimizer: Optimizer) -> None:
    """Raise ConfigError where the schedule asks for the number of steps, and nobody knows it."""
    if not optimizer.needs_length or _limit(trainer) is not None:
        return
    data, schedule = data_of(trainer), optimizer.lr_scheduler_type
    if data is not None and data.streaming:
        raise ConfigError(
            f"data.streaming true: model.optimizer.lr_scheduler_type {schedule} needs the number of steps, and nobody "
            "knows how many a stream has: set trainer.max_steps, or take constant"
        )
    if trainer.max_epochs in (None, -1):
        raise ConfigError(
            f"model.optimizer.lr_scheduler_type {schedule} needs the number of steps, and trainer.max_epochs is "
            f"{trainer.max_epochs}: set trainer.max_epochs or trainer.max_steps, or take constant"
        )


def _limit(trainer: Trainer) -> int | None:
    """Return the number of steps at which a run ends, whatever the data."""
    limits = [trainer.max_steps, *(getattr(callback, "max_steps", -1) for callback in trainer.callbacks)]  # type: ignore[attr-defined]
    return min((int(limit) for limit in limits if limit > 0), default=None)
