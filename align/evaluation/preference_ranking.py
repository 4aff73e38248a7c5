"""Held-out preferences: how often rewards order responses as the data does, by row, with intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from align.evaluation.statistics import Interval, bootstrap

MEASURES = ("accuracy", "best", "kendall_tau")


class RankedRow(NamedTuple):
    """The responses of one prompt, how the data orders them, and the rewards that models give them."""

    id: str
    prompt: str
    """Equal for rows of the same prompt."""
    ranks: tuple[int, ...]
    """Of each response, 0 the best; tied responses share one."""
    rewards: Mapping[str, Sequence[float]]
    """By model and kind of reward, one for each response; NaN where the row could not be read."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a line of JSON, null where a reward is missing."""
        plain = {name: [None if math.isnan(x) else x for x in values] for name, values in self.rewards.items()}
        return {"id": self.id, "prompt": self.prompt, "ranks": list(self.ranks), "rewards": plain}

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> RankedRow:
        """Return the row that `as_dict` wrote."""
        rewards = {name: [math.nan if x is None else x for x in own] for name, own in line["rewards"].items()}
        return cls(line["id"], line["prompt"], tuple(line["ranks"]), rewards)


def ranking_values(ranks: Sequence[int], rewards: Sequence[float]) -> tuple[float, float, float]:
    """Return `MEASURES` of one row; all NaN where a reward is missing or the data orders nothing.

    Accuracy is the share of pairs that the data orders strictly in which the better response has the higher reward,
    equal rewards counting half; of two responses that is right or wrong. `best` is 1 where a best response has the
    highest reward, and its share of the responses that have it in a tie. Kendall's tau is tau-b (Kendall 1945), which
    allows for ties in the data; rewards that are all equal order nothing, and have 0.
    """
    if any(map(math.isnan, rewards)) or len(set(ranks)) < 2:
        return math.nan, math.nan, math.nan
    place, value = np.asarray(ranks), np.asarray(rewards, dtype=np.float64)
    better = place[:, None] < place[None, :]
    gaps = np.sign(value[:, None] - value[None, :])
    accuracy = float(((gaps + 1) / 2)[better].mean())
    highest = value == value.max()
    best = float((place[highest] == place.min()).mean())
    tau = float(stats.kendalltau(-place, value).statistic) if len(set(rewards)) > 1 else 0.0
    return accuracy, best, tau


def measure_rows(rows: Sequence[RankedRow], name: str) -> NDArray[np.float64]:
    """Return `[row, measure]` of one of the rewards."""
    return np.array([ranking_values(row.ranks, row.rewards[name]) for row in rows], dtype=np.float64).reshape(-1, 3)


def over_prompts(prompts: Sequence[str], values: ArrayLike, *, seed: int = 0) -> Interval:
    """Return the mean over rows with a bootstrap interval in which prompts are drawn, each with all its rows.

    Args:
        prompts: Of each row.
        values: Of each row; NaN leaves it out.
        seed: Of the draws.
    """
    table = _by_prompt(prompts, values)
    if not table[:, 1].sum():
        return Interval(math.nan, math.nan, math.nan)
    return bootstrap(table, lambda x: (x[..., 0].sum(-1) / x[..., 1].sum(-1))[..., None], seed=seed)[0]


def _by_prompt(prompts: Sequence[str], values: ArrayLike) -> NDArray[np.float64]:
    """Return the sum and the count of the values of each prompt, in the order of the first rows."""
    numbers = {prompt: n for n, prompt in enumerate(dict.fromkeys(prompts))}
    own = np.asarray(values, dtype=np.float64)
    place = np.array([numbers[prompt] for prompt in prompts])
    there = ~np.isnan(own)
    counts = np.bincount(place[there], minlength=len(numbers))
    sums = np.bincount(place[there], weights=own[there], minlength=len(numbers))
    return np.stack([sums, counts.astype(np.float64)], axis=1)
