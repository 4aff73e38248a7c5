"""The best of n samples, against every choice of n written out."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from align.errors import ConfigError
from align.evaluation.best_of_n import BestOf, best_of_reports, best_of_weights, kl_bound

REWARDS = {"good": [0.3, -1.0, 2.0, 0.5, 1.0, 0.0, -2.0, 4.0], "long": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]}
OWNERS = [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("by", ["good", "long"])
def test_it_is_the_mean_over_all_choices(n: int, by: str) -> None:
    found = best_of_reports(BestOf([n], by), REWARDS, OWNERS)[str(n)]
    for name, values in REWARDS.items():
        means = []
        for places in (range(4), range(4, 8)):
            chosen = [max(choice, key=lambda i: REWARDS[by][i]) for choice in combinations(places, n)]
            means.append(np.mean([values[i] for i in chosen]))
        assert found.rewards[name].value == pytest.approx(np.mean(means))


def test_one_of_one_is_the_mean_and_the_bound_is_that_of_the_paper() -> None:
    assert best_of_weights(1, 5) == pytest.approx([0.2] * 5)
    assert best_of_weights(64, 64) == pytest.approx([0.0] * 63 + [1.0])
    assert best_of_weights(7, 1000).sum() == pytest.approx(1)
    assert kl_bound(1) == 0
    assert kl_bound(4) == pytest.approx(1.3862944 - 0.75)  # log 4 = 1.3862944
    # uniform rewards: the best of n is n / (n + 1) on average
    uniform = (np.arange(2000) + 0.5) / 2000
    assert best_of_weights(8, 2000) @ uniform == pytest.approx(8 / 9, abs=1e-3)


def test_a_prompt_with_a_sample_without_reward_is_left_out() -> None:
    rewards = {"good": [0.0, 1.0, math.nan, 5.0]}
    assert best_of_reports(BestOf([2]), rewards, [0, 0, 1, 1])["2"].rewards["good"].value == 1.0
    with pytest.raises(ConfigError, match="every prompt has a sample without a reward"):
        best_of_reports(BestOf([2]), {"good": [math.nan, 1.0]}, [0, 0])


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'bad' is no reward of these \(one of good, long\)"):
        best_of_reports(BestOf([2], "bad"), REWARDS, OWNERS)
    with pytest.raises(ValueError, match="the best of 5 needs as many samples"):
        best_of_reports(BestOf([5]), REWARDS, OWNERS)
    for sizes in ([], [0], [2, 2]):
        with pytest.raises(ConfigError, match="different whole numbers from 1"):
            BestOf(sizes)
