"""Logs tokens per second, padding and peak memory."""

from __future__ import annotations

import sys
import time
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from align.records import Step


class Throughput(Callback):
    """Logs `train/tokens_per_second`, `train/num_tokens`, `train/padding` and `train/memory_gb`.

    Tokens are prompt and response tokens of all processes, each prompt counted once; where a loader of others does not
    say how many those are, this process's times their number. The first step of a run is left out of the rate: it pays
    for warming up. Padding is the share of the positions computed so far in this process that hold no token.
    """

    def __init__(self) -> None:
        self._started: float | None = None
        self._tokens = 0
        self._timed = 0
        self._positions = self._held = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock at the second step."""
        if self._started is None and self._tokens:
            self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step and log."""
        step, own = batch if isinstance(batch, Step) else Step([batch]), 0
        for part in step:
            positions, held = pl_module.positions(part)  # type: ignore[operator]
            self._positions, self._held = self._positions + positions, self._held + held * (not part.padding)
            own += (sum(part.prompt_lengths) + sum(part.response_lengths)) * (not part.padding)
        tokens = step.totals.tokens or own * trainer.world_size
        self._tokens += tokens
        numbers = {
            "num_tokens": self._tokens,
            "padding": 1 - self._held / self._positions,
            "memory_gb": peak_memory() / 2**30,
        }
        if self._started is not None:
            self._timed += tokens
            numbers["tokens_per_second"] = self._timed / (time.perf_counter() - self._started)
        for name, number in numbers.items():  # as tensors of the CPU: Lightning would put plain numbers on the device
            pl_module.log(f"train/{name}", torch.tensor(float(number)), prog_bar=name == "tokens_per_second")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave validation out of the rate: start anew after it."""
        self._started, self._timed = None, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the token count, which goes on after a resume."""
        return {"tokens": self._tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the token count up again."""
        self._tokens = state_dict["tokens"]


def peak_memory() -> int:
    """Return the most memory this process has used, in bytes: on the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
