"""Best-of-n: what the best of n samples is worth, told from more samples than n, and its distance from the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

from align.errors import ConfigError
from align.evaluation.statistics import Interval, mean_interval


@dataclass(frozen=True)
class BestOf:
    """Which n, and by which reward the best is told."""

    n: list[int]
    """Sizes, such as [2, 4, 8]; every prompt needs as many samples as the largest, and more make it exacter."""
    by: str | None = None
    """The reward that chooses, by its name in the table; null takes the first."""

    def __post_init__(self) -> None:
        if not self.n or any(n < 1 for n in self.n) or len(set(self.n)) < len(self.n):
            raise ConfigError(f"best_of.n: expected different whole numbers from 1, as in [2, 4, 8], got {self.n}")


@dataclass(frozen=True)
class BestOfReport:
    """What best-of-n reaches for one n."""

    rewards: dict[str, Interval]
    """Every reward of the chosen sample, the one that chooses and the others."""
    kl_bound: float
    """log n - (n - 1) / n nats, the most that the KL divergence to the model can be (see `kl_bound`)."""


def best_of_weights(n: int, samples: int) -> Float[np.ndarray, " sample"]:
    """Return the probability of each of some samples, the worst first, to be the best of n drawn from them.

    C(i - 1, n - 1) / C(N, n) for the i-th of N: the mean over all choices of n without replacement, and so the unbiased
    estimator of least variance of what best-of-n reaches (Nakano et al. 2021, arXiv:2112.09332, appendix I).
    """
    if not 1 <= n <= samples:
        raise ValueError(f"the best of {n} needs as many samples at least, got {samples}")
    places = np.arange(n, samples + 1)
    logs = _log_choose(places - 1, n - 1) - _log_choose(np.array(samples), n)
    return np.concatenate([np.zeros(n - 1), np.exp(logs)])


def kl_bound(n: int) -> float:
    """Return log n - (n - 1) / n, which the KL divergence of best-of-n to the model does not exceed, in nats.

    Equal to it where no two samples are the same and none are worth the same (Beirami et al. 2024, arXiv:2401.01879).
    """
    return math.log(n) - (n - 1) / n


def best_of_reports(
    asked: BestOf, rewards: Mapping[str, Sequence[float]], owners: Sequence[int]
) -> dict[str, BestOfReport]:
    """Return what best-of-n reaches for every n; prompts with a sample that has no reward are left out.

    Args:
        asked: Sizes, and which reward chooses.
        rewards: Of all samples, by name.
        owners: The prompt of each sample.

    Raises ConfigError for an unknown reward, and where no prompt has all its rewards.
    """
    by = next(iter(rewards)) if asked.by is None else asked.by
    if by not in rewards:
        raise ConfigError(f"best_of.by: {by!r} is no reward of these (one of {', '.join(rewards)})")
    places = [np.flatnonzero(np.asarray(owners) == owner) for owner in np.unique(owners)]
    table = np.stack([np.asarray(values, dtype=np.float64) for values in rewards.values()], axis=-1)
    choosing = list(rewards).index(by)
    whole = [own for own in places if not np.isnan(table[own]).any()]
    if not whole:
        raise ConfigError("best_of: every prompt has a sample without a reward: mend the scorer, or leave best_of out")
    ordered = [table[own][np.argsort(table[own, choosing], kind="stable")] for own in whole]
    found = {}
    for n in asked.n:
        means = np.stack([best_of_weights(n, len(own)) @ own for own in ordered])
        intervals = [mean_interval(means[:, column]) for column in range(len(rewards))]
        found[str(n)] = BestOfReport(dict(zip(rewards, intervals, strict=True)), kl_bound(n))
    return found


def _log_choose(many: Float[np.ndarray, ...], few: int) -> Float[np.ndarray, ...]:
    found: Float[np.ndarray, ...] = gammaln(many + 1) - gammaln(few + 1) - gammaln(many - few + 1)
    return found
