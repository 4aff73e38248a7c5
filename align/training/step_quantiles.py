"""The distributions of a whole optimiser step, for losses that compare them: over its micro-batches and all ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from align.distributed import rank, world_size
from align.objectives.objective import Objective
from align.objectives.optimal_transport import Quantiles, TransportObjective, quantiles
from align.records import CandidateBatch, PairScores, Step
from align.training.reference_policy import ReferencedModule
from align.transfer import tensor_on


class StepQuantiles:
    """Finds the quantiles of a step before its first micro-batch, and hands them out micro-batch by micro-batch."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective if isinstance(objective, TransportObjective) else None
        self._left: list[Quantiles] = []

    @torch.no_grad()
    def begin_step(self, module: ReferencedModule, step: Step) -> None:
        """Compare the step's pairs, which costs a forward pass more where it is more than one micro-batch in all."""
        if self._objective is None or (len(step) == 1 and world_size() == 1):
            return
        own = torch.cat([torch.stack([*self._compared(module, batch), batch.weights], dim=1) for batch in step])
        everyone, first = gathered_rows(own, step.totals.rank_groups)
        found = quantiles(*everyone.unbind(1))
        sizes = [len(batch.group_sizes) for batch in step]
        parts = zip(*(torch.split(values[first : first + len(own)], sizes) for values in found), strict=True)
        self._left = [Quantiles(*part) for part in parts]

    def of_next(self) -> tuple[Quantiles, ...]:
        """Return what the objective is given of the step for its next micro-batch, if anything."""
        return (self._left.pop(0),) if self._left else ()

    def _compared(self, module: ReferencedModule, batch: CandidateBatch) -> tuple[Tensor, Tensor]:
        assert self._objective is not None
        policy, reference = module.scored(module.model, batch), module.reference_scores(batch)
        return self._objective.compared(PairScores.of(policy, batch), PairScores.of(reference, batch))


def gathered_rows(own: Tensor, most: int) -> tuple[Tensor, int]:
    """Return the rows of all ranks, and where this rank's begin; rows of zeros fill up between them.

    Args:
        own: This rank's rows.
        most: At least as many as any rank has, the same on all, which the loader knows. At 0, as of a loader of others,
            the ranks tell each other, and the CPU waits for the device to read it.
    """
    if world_size() == 1:
        return own, 0
    most = most or _most(own)
    filled = torch.cat([own, own.new_zeros(most - len(own), own.shape[1])])
    everyone = [torch.empty_like(filled) for _ in range(world_size())]
    dist.all_gather(everyone, filled)
    return torch.cat(everyone), rank() * most


def _most(own: Tensor) -> int:
    longest = tensor_on(own.device, len(own))
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    return int(longest)
