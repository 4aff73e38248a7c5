"""Losses that compare the distributions of a step's log-ratios, by optimal transport in one dimension."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from align.objectives.pairwise import SmoothedObjective, log_ratios, logistic
from align.records import PairScores


class Quantiles(NamedTuple):
    """What stands at a pair's quantiles in the distributions of the whole step; no gradient runs through it."""

    below: Float[Tensor, " group"]
    """The lower distribution's value at the quantile of the pair's upper value."""
    above: Float[Tensor, " group"]
    """The upper distribution's value at the quantile of the pair's lower value."""
    share: Float[Tensor, " group"]
    """The weight of the pair that `above` is of, over the pair's own."""


class TransportObjective(SmoothedObjective):
    """Asks one distribution to dominate another, quantile by quantile; both are those of the optimiser step.

    So the number of pairs in a step changes the loss, and how it is cut into micro-batches and ranks does not; in
    validation, whose pairs are put into steps too, as little.
    """

    @abstractmethod
    def compared(self, policy: PairScores, reference: PairScores) -> tuple[Tensor, Tensor]:
        """Return each pair's value in the upper distribution and in the lower one."""

    def __call__(
        self, policy: PairScores, reference: PairScores, step: Quantiles | None = None
    ) -> Float[Tensor, " group"]:
        """Return the loss of the quantile at which each pair's upper value stands: of these pairs, or of a step.

        With a step, the gradient of a pair's loss is that of the step's loss with respect to the pair.
        """
        upper, lower = self.compared(policy, reference)
        if step is None:
            return self._losses(upper - lower.sort().values[upper.argsort().argsort()])
        losses = self._losses(step.above - lower) * step.share
        return self._losses(upper - step.below) + (losses - losses.detach())

    def _losses(self, gaps: Float[Tensor, " group"]) -> Float[Tensor, " group"]:
        return logistic(self.beta * gaps, self.label_smoothing)


@dataclass(frozen=True)
class AOT(TransportObjective):
    """Alignment via optimal transport on pairs (Melnyk et al. 2024, arXiv:2406.05882; TRL's `aot`).

    Asks the policy's margins to dominate the reference's.
    """

    def compared(self, policy: PairScores, reference: PairScores) -> tuple[Tensor, Tensor]:
        """Return the margins of the policy and of the reference."""
        return policy.chosen - policy.rejected, reference.chosen - reference.rejected


@dataclass(frozen=True)
class AOTUnpaired(TransportObjective):
    """Alignment via optimal transport, unpaired (Melnyk et al. 2024, arXiv:2406.05882; TRL's `aot_unpaired`).

    Asks the log-ratios of chosen responses to dominate those of rejected ones; which two were a pair plays no part.
    """

    def compared(self, policy: PairScores, reference: PairScores) -> tuple[Tensor, Tensor]:
        """Return the log-ratios of chosen and rejected."""
        return log_ratios(policy, reference)


def quantiles(upper: Tensor, lower: Tensor, weights: Tensor) -> Quantiles:
    """Return what stands at the quantiles of every pair of a step; each argument is of shape [group].

    Rows of weight 0 are padding: they have no part in it, and zeros in the place of what stands there.
    """
    padding = weights == 0
    upper_order, lower_order = _order(upper, padding), _order(lower, padding)
    upper_rank, lower_rank = torch.empty_like(upper_order), torch.empty_like(lower_order)
    places = torch.arange(len(upper), device=upper.device)
    upper_rank[upper_order], lower_rank[lower_order] = places, places
    partner = upper_order[lower_rank]
    found = Quantiles(lower[lower_order[upper_rank]], upper[partner], weights[partner] / weights)
    return Quantiles(*(values.masked_fill(padding, 0) for values in found))


def _order(values: Float[Tensor, " group"], padding: Bool[Tensor, " group"]) -> Int[Tensor, " group"]:
    """Return the places of values from the lowest on, padding last: picked out, it would make a GPU wait."""
    ascending = values.argsort(stable=True)
    return ascending[padding[ascending].byte().argsort(stable=True)]
