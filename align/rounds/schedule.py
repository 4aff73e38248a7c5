"""The learning rate of a round that begins anew: its schedule runs over the round, not over the run."""

from __future__ import annotations

import math
from typing import Any

from align.sampling.trained_module import ScheduleSettings


def steps_of_round(trainer: Any, epochs: int) -> int:
    """Return the optimiser steps of the current round."""
    batches: int = trainer.num_training_batches
    accumulate: int = trainer.accumulate_grad_batches
    return math.ceil(batches / accumulate) * epochs


def in_last_round(trainer: Any, epochs: int) -> bool:
    """Tell whether no round follows the current one, as far as the limits of the run say."""
    left = epochs - trainer.current_epoch % epochs
    if trainer.max_epochs not in (None, -1) and trainer.current_epoch + left >= trainer.max_epochs:
        return True
    last: int = trainer.max_steps
    return last != -1 and trainer.global_step + steps_of_round(trainer, left) >= last


def set_schedule(trainer: Any, settings: ScheduleSettings, steps: int, *, anew: bool) -> None:
    """Give the optimiser the schedule of a round of so many steps, from its start or where the old one is.

    Args:
        trainer: The running Trainer.
        settings: The method's optimiser settings, which build schedules.
        steps: Optimiser steps of the round.
        anew: Begin with the first step; else go on at the old schedule's.
    """
    for config in trainer.lr_scheduler_configs:
        optimizer, old = config.scheduler.optimizer, config.scheduler.state_dict()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        config.scheduler = settings.schedule(optimizer, steps)
        if not anew:
            config.scheduler.load_state_dict(old)
            for group, rate in zip(optimizer.param_groups, old["_last_lr"], strict=True):
                group["lr"] = rate
