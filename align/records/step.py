"""The micro-batches of one optimiser step: what a training loader hands over, and Lightning counts as one batch."""

from __future__ import annotations

import torch

from align.records.batch import CandidateBatch
from align.records.group import StepTotals


class Step(tuple[CandidateBatch, ...]):
    """What one process computes of an optimiser step, in micro-batches; every process has as many of them."""

    def to(self, device: torch.device | str) -> Step:
        """Return the step on a device, without waiting for it: what Lightning calls."""
        return Step([batch.to(device) for batch in self])

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids of this process's groups; padding has none."""
        return tuple(name for batch in self if not batch.padding for name in batch.ids)

    @property
    def totals(self) -> StepTotals:
        """Return the sums over the step, of all processes."""
        return self[0].totals
