"""Callbacks as users write them: with state that is saved, forgotten, or cannot be read again."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import Callback


class Annealing(Callback):
    """Adds ever less to every gradient; where it has come to is saved."""

    def __init__(self, start: float = 0.01) -> None:
        self.value = start

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.value *= 0.7
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                parameter.grad += self.value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict["value"]


class Forgetful(Callback):
    """Counts batches, and saves nothing."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.count += 1


class Numpy(Annealing):
    """Saves a number that no run could read."""

    def state_dict(self) -> dict[str, Any]:
        return {"value": np.float64(self.value)}
