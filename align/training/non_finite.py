"""Optimiser steps whose loss or gradient is not finite are left out, and end the run when several follow each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor

from align.distributed import gather
from align.errors import TrainingError, shorten

FINITE = "finite"
"""Name under which the ranks agree that there is no fault, in the one reduction a step has anyway."""


class Found(NamedTuple):
    """What one rank saw in a step that is left out."""

    losses: dict[str, float]
    """Losses that are not finite, by the ids of their batch."""
    gradients: list[str]
    """Parameters whose gradient is not finite."""
    ids: str
    """Ids of all groups of the step."""


class Limit(NamedTuple):
    """What a mean of a step may be at most."""

    most: float
    setting: str
    """Where it is set."""


class NonFiniteGuard:
    """Watches the losses of a step and decides, the same on every rank, whether it may be taken."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipped = 0
        self.in_a_row = 0
        self.limits: dict[str, Limit] = {}
        """By the name of a mean; a step above one is left out too."""
        self._batches: list[tuple[tuple[str, ...], Tensor]] = []

    def watch(self, ids: tuple[str, ...], loss: Tensor) -> None:
        """Keep the loss of a micro-batch of this step, without waiting for its value."""
        self._batches.append((ids, loss.detach()))

    def faulty(self, norm: Tensor, *, scaled: bool) -> Tensor:
        """Return whether this rank's losses, or the gradient's norm, are not finite, without waiting for it.

        A gradient scaler (`scaled`) finds gradients that overflow by itself and tries again with a smaller scale.
        """
        losses = [loss for _, loss in self._batches]
        return ~torch.stack(losses if scaled else [*losses, norm.to(losses[0])]).isfinite().all()

    def taken(self, step: int, means: Mapping[str, Tensor]) -> bool:
        """Return whether a step that is finite is taken; one that passes a limit is counted and told."""
        self.in_a_row, self._batches = 0, []
        for name, limit in self.limits.items():
            if means[name] > limit.most:
                self.skipped += 1
                rank_zero_warn(
                    f"mean {name} of optimiser step {step} is {float(means[name]):.4g}, above {limit.setting} "
                    f"{limit.most:g}; the step was not taken ({self.skipped} in all)"
                )
                return False
        return True

    def leave_out(self, step: int, gradients: Mapping[str, Tensor]) -> None:
        """Note that the step is left out, and warn. Raises TrainingError at the limit. Every rank has to call it."""
        told = gather(self._found(gradients))
        self.skipped, self.in_a_row, self._batches = self.skipped + 1, self.in_a_row + 1, []
        message = f"{_describe(step, told)}; the step was not taken ({self.in_a_row} in a row, {self.skipped} in all)"
        if self.in_a_row >= self.limit:
            raise TrainingError(
                f"{message}: look at these groups, lower optimizer.learning_rate, or allow more such steps with "
                "optimizer.stop_after_nonfinite"
            )
        rank_zero_warn(message)

    def _found(self, gradients: Mapping[str, Tensor]) -> Found:
        losses = {", ".join(ids): loss.item() for ids, loss in self._batches if not loss.isfinite()}
        broken = [name for name, gradient in gradients.items() if not _local(gradient).isfinite().all()]
        return Found(losses, broken, ", ".join(name for ids, _ in self._batches for name in ids))

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, so that a resumed run ends at the same step as one that was never cut."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the counts up again."""
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]


def _describe(step: int, told: list[Found]) -> str:
    losses = {ids: loss for found in told for ids, loss in found.losses.items()}
    if losses:
        ids = shorten(", ".join(losses), 200)
        return f"loss of optimiser step {step} is {next(iter(losses.values()))}, expected a finite number: groups {ids}"
    names = list(dict.fromkeys(name for found in told for name in found.gradients))
    where = f"{len(names)} parameters, first {names[0]}" if names else "the sum over all parameters"
    ids = shorten(", ".join(found.ids for found in told), 200)
    return f"gradient of optimiser step {step} is not finite in {where}, while the loss is: groups {ids}"


def _local(gradient: Tensor) -> Tensor:
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient
