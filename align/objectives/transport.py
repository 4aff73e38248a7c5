"""Losses that compare distributions of log-ratios over a micro-batch, by optimal transport in one dimension."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from align.objectives.pairwise import SmoothedObjective, log_ratios, logistic
from align.records import PairScores


@dataclass(frozen=True)
class AOT(SmoothedObjective):
    """Alignment via optimal transport on pairs (Melnyk et al. 2024, arXiv:2406.05882; TRL's `aot`).

    Asks the policy's margins to dominate the reference's quantile by quantile. The quantiles are those of a micro-batch
    on one device: batch size, and how pairs are put together, change the loss. Each pair's loss is that of the quantile
    its policy margin stands at.
    """

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of each pair's quantile."""
        upper, lower = policy.chosen - policy.rejected, reference.chosen - reference.rejected
        return logistic(self.beta * _gaps(upper, lower), self.label_smoothing)


@dataclass(frozen=True)
class AOTUnpaired(SmoothedObjective):
    """Alignment via optimal transport, unpaired (Melnyk et al. 2024, arXiv:2406.05882; TRL's `aot_unpaired`).

    Asks the log-ratios of chosen responses to dominate those of rejected ones; which two were a pair plays no part.
    Quantiles are those of a micro-batch, as in AOT.
    """

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of the quantile of each chosen response."""
        return logistic(self.beta * _gaps(*log_ratios(policy, reference)), self.label_smoothing)


def _gaps(upper: Float[Tensor, " group"], lower: Float[Tensor, " group"]) -> Float[Tensor, " group"]:
    """Return how far each value of `upper` lies above the value of the same quantile of `lower`."""
    return upper - lower.sort().values[upper.argsort().argsort()]
