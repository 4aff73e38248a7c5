"""Weights on the losses of pairs, from how likely the policy is to write them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from align.records import CandidateBatch, PairScores, ResponseScores


@dataclass(frozen=True)
class WPO:
    """Weighted preference optimisation (Zhou et al. 2024, arXiv:2406.11827, Eq. 2, with its sampled alignment).

    A response weighs exp(mean over its tokens of log p(token) - log sum_v p(v)^2): 1 where its tokens are as likely as
    sampled ones on average. A pair weighs the product of its two responses, without gradient. The released code cuts
    the product at 1; TRL's `use_weighting` does not.
    """

    clamp: bool = True
    """Cut a pair's weight at 1."""

    def __call__(self, policy: ResponseScores, batch: CandidateBatch) -> Float[Tensor, " group"]:
        """Return the weight of each pair; scores are plain sums over tokens."""
        assert policy.collisions is not None
        excess = (policy.logprobs - policy.collisions) / policy.lengths
        pairs = PairScores.of(policy._replace(logprobs=excess.detach()), batch)
        weights = (pairs.chosen + pairs.rejected).exp()
        return weights.clamp(max=1) if self.clamp else weights
