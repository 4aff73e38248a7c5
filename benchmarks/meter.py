"""What a side of a benchmark measures of itself: time, memory, tokens; printed as one line of JSON."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import LlamaConfig, TrainerCallback

WARM_UP = 2
"""Optimiser steps at the start that are not measured."""
MARK = "RESULT "


class Work(NamedTuple):
    """The groups of the measured steps: lengths of prompts and of their responses, in tokens."""

    prompts: Sequence[int]
    responses: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Return the tokens, each prompt counted once."""
        return sum(self.prompts) + sum(map(sum, self.responses))

    def flops(self, config: LlamaConfig, *, head: bool) -> float:
        """Return the least that training on them takes: prompts once, the head at responses, three forward units."""
        width, layers, kv = config.hidden_size, config.num_hidden_layers, config.num_key_value_heads
        share = kv / config.num_attention_heads
        block = 2 * width * width * (1 + share) + 3 * width * config.intermediate_size
        triangles = [n * (n + 1) // 2 for n in self.prompts]
        for prompt, own in zip(self.prompts, self.responses, strict=True):
            triangles += [n * prompt + n * (n + 1) // 2 for n in own]
        scored = sum(map(sum, self.responses)) if head else 0
        matmuls = 2 * layers * block * self.tokens + 2 * config.vocab_size * width * scored
        return float(3 * (matmuls + 4 * layers * width * sum(triangles)))


class Clock:
    """Wall and CPU seconds of this process, all threads, from `start` to `stop`."""

    def start(self) -> None:
        """Begin."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, **more: Any) -> None:
        """Print what was measured."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(MARK + json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_gb": peak, **more}), flush=True)


class FitMeter(Callback):
    """Measures `align fit` from the first step after the warm-up to the last one."""

    def __init__(self) -> None:
        self.clock, self.losses = Clock(), list[float]()
        self.prompts, self.responses = list[int](), list[list[int]]()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock, and note what the step holds."""
        if batch_idx == WARM_UP:
            self.clock.start()
        if batch_idx >= WARM_UP:
            for part in batch:
                lengths = iter(part.response_lengths)
                self.prompts += part.prompt_lengths
                self.responses += [[next(lengths) for _ in range(size)] for size in part.group_sizes]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss."""
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        padding = float(trainer.callback_metrics["train/padding"])
        work = Work(self.prompts, self.responses)
        report(self.clock, self.losses, work, padding)


class TRLMeter(TrainerCallback):  # type: ignore[misc]
    """Measures a TRL trainer over the same steps."""

    def __init__(self, work: Work, padding: float) -> None:
        self.clock, self.losses, self.work, self.padding = Clock(), list[float](), work, padding

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock after the warm-up."""
        if state.global_step == WARM_UP:
            self.clock.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Note the loss."""
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        report(self.clock, self.losses, self.work, self.padding)


def report(clock: Clock, losses: list[float], work: Work, padding: float) -> None:
    """Stop the clock and print the line."""
    lengths = {"prompts": list(work.prompts), "responses": [list(r) for r in work.responses]}
    clock.stop(first_loss=losses[0], last_loss=losses[-1], padding=padding, **lengths)
