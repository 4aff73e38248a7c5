"""Ends an online run that has gone wrong, with a reason."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from align.errors import ConfigError, TrainingError

PLACE = "align.callbacks.policy_watch.PolicyWatch"


class PolicyWatch(Callback):
    """Ends the run where the divergence explodes, the entropy collapses, or the samples all have one reward.

    It looks at `train/kl` (or `train/old_kl` where no reference is read), `train/entropy` and `train/reward_spread`
    after every step, and ends the run with a TrainingError after `patience` steps in a row; the checkpoints stay, of
    which the last whole ones are from before or within those steps.
    """

    def __init__(
        self,
        max_kl: float | None = 1.0,
        min_entropy: float | None = 0.01,
        *,
        min_reward_spread: float | None = 1e-6,
        patience: int = 10,
    ) -> None:
        """Configure the watch.

        Args:
            max_kl: Mean divergence per token from the reference, in nats; null does not look.
            min_entropy: Mean entropy per token, in nats; null does not look.
            min_reward_spread: Mean over prompts of the deviation of their samples' rewards; null does not look.
            patience: Steps in a row after which the run ends.
        """
        limits = {"max_kl": max_kl, "min_entropy": min_entropy, "min_reward_spread": min_reward_spread}
        if bad := [name for name, value in limits.items() if value is not None and not value > 0]:
            raise ConfigError(f"{PLACE}: {bad[0]} must be positive or null, got {limits[bad[0]]}")
        if patience < 1:
            raise ConfigError(f"{PLACE}: patience must be at least 1, got {patience}")
        self.limits, self.patience = limits, patience
        self._in_a_row = dict.fromkeys(limits, 0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a method that has nothing to watch."""
        if not hasattr(pl_module, "begin_round"):
            raise ConfigError(f"{PLACE} is for methods that train on their own samples: leave it out")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at what the step has logged. Raises TrainingError after too many bad steps in a row."""
        for name, (metric, value) in self._found(trainer.callback_metrics).items():
            limit = self.limits[name]
            bad = limit is not None and not (value < limit if name == "max_kl" else value > limit)
            self._in_a_row[name] = self._in_a_row[name] + 1 if bad else 0
            ends = self._in_a_row[name] >= self.patience
            if ends:
                raise TrainingError(
                    f"{PLACE}: {metric} is {value:.4g} at step {trainer.global_step}, {name} {limit:g} was passed for "
                    f"{self.patience} steps in a row: go back to an earlier checkpoint with a lower "
                    "optimizer.learning_rate or a higher weight of the divergence, look at the rewards of the samples "
                    "(`align show`), or set another limit"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps in a row were bad."""
        return dict(self._in_a_row)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up."""
        self._in_a_row = dict(state_dict)

    @staticmethod
    def _found(logged: Any) -> dict[str, tuple[str, float]]:
        names = {
            "max_kl": "train/kl" if "train/kl" in logged else "train/old_kl",
            "min_entropy": "train/entropy",
            "min_reward_spread": "train/reward_spread",
        }
        return {limit: (name, float(logged.get(name, math.nan))) for limit, name in names.items() if name in logged}
