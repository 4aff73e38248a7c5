"""Advantages of tokens from rewards and a critic's values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray


class Estimates(NamedTuple):
    """What a critic's values and the rewards say of every token of a round."""

    advantages: Float[NDArray[np.float64], " token"]
    returns: Float[NDArray[np.float64], " token"]
    end_returns: Float[NDArray[np.float64], " sample"] | None = None
    """Of the states behind the samples' ends, NaN of a sample without one; None where no score stands there."""

    def without_ends(
        self, last: Int[NDArray[np.int64], " sample"], has_end: Bool[NDArray[np.bool_], " sample"]
    ) -> Estimates:
        """Return the estimates of tokens, and the returns of states behind ends apart from them.

        Args:
            last: Place of the last state of each sample, which is the one behind its end where it has one.
            has_end: Which samples have one.
        """
        tokens = np.ones(len(self.returns), dtype=bool)
        tokens[last[has_end]] = False
        end_returns = np.where(has_end, self.returns[last], np.nan)
        return Estimates(self.advantages[tokens], self.returns[tokens], end_returns)


def generalized_advantages(
    rewards: Float[NDArray[np.float64], " token"],
    values: Float[NDArray[np.float64], " token"],
    lengths: NDArray[np.int64],
    *,
    gamma: float,
    lam: float,
) -> Estimates:
    """Return GAE (Schulman et al. 2016, arXiv:1506.02438, Eq. 16) of samples that stand one after the other.

    delta_t = R_t + gamma V_(t+1) - V_t and A_t = delta_t + gamma lam A_(t+1), with V and A 0 beyond the last token; the
    return is A + V.
    """
    ends = np.cumsum(lengths)
    last = np.zeros(len(rewards), dtype=bool)
    last[ends - 1] = True
    following = np.where(last, 0.0, np.roll(values, -1))
    advantages = rewards + gamma * following - values
    for back in range(1, int(lengths.max())):  # all samples at once, from their ends
        own = ends[lengths > back] - 1 - back
        advantages[own] += gamma * lam * advantages[own + 1]
    return Estimates(advantages, advantages + values)


def whitened(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with mean 0 and variance 1 (n - 1 in the denominator, 1e-8 added), as TRL whitens."""
    variance = values.var(ddof=1) if len(values) > 1 else 0.0
    return np.asarray((values - values.mean()) / np.sqrt(variance + 1e-8))
