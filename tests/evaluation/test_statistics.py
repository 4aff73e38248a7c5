"""Bootstrap intervals and agreement, against closed forms and worked examples of the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from align.evaluation.statistics import (
    Interval,
    bootstrap,
    cohen_kappa,
    fleiss_kappa,
    mean_interval,
    nested_interval,
    nested_means,
    paired_difference,
)


def test_interval_equals_scipys() -> None:
    values = np.random.default_rng(1).normal(size=200)
    theirs = scipy_bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0))
    ours = mean_interval(values)
    assert ours.value == pytest.approx(values.mean())
    # both are Monte Carlo estimates of the same quantiles, of which 2000 draws leave an error of about 0.004
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.015)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.015)


def test_interval_covers_as_often_as_it_says() -> None:
    """Of 400 samples from a normal distribution about 95 % cover the mean; four standard errors are 4.4 %."""
    draws = np.random.default_rng(0).normal(size=(400, 60))
    covered = [i.low <= 0 <= i.high for i in bootstrap(draws.T)]
    assert abs(np.mean(covered) - 0.94) < 0.044  # a percentile interval of 60 is slightly too narrow


def test_same_seed_same_interval_and_pairing_removes_shared_noise() -> None:
    rng = np.random.default_rng(3)
    shared = rng.normal(scale=10, size=300)
    a, b = shared + 0.5 + rng.normal(scale=0.1, size=300), shared
    assert paired_difference(a, b) == paired_difference(a, b)
    assert paired_difference(a, b) != paired_difference(a, b, seed=1)
    assert paired_difference(a, b).excludes_zero
    assert not Interval(0.1, -0.1, 0.3).excludes_zero
    assert mean_interval(a).low < mean_interval(b).value  # unpaired, the difference drowns


def test_missing_values_and_bad_tables() -> None:
    assert mean_interval([1.0, math.nan, 3.0]).value == 2
    with pytest.raises(ValueError, match="row per prompt"):
        bootstrap(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="same prompts"):
        paired_difference([1, 2], [1])


def test_cohens_kappa() -> None:
    # 25 yes/yes, 10 yes/no, 15 no/yes, 20 no/no of 70: observed 45/70, expected (35*40 + 35*30)/4900 = 1/2
    first = ["y"] * 35 + ["n"] * 35
    second = ["y"] * 25 + ["n"] * 10 + ["y"] * 15 + ["n"] * 20
    assert cohen_kappa(first, second) == pytest.approx((45 / 70 - 0.5) / 0.5)
    assert cohen_kappa(first, first) == 1
    assert math.isnan(cohen_kappa(["y"], ["y"]))
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa(["y"], [])


def test_fleiss_kappa() -> None:
    """The worked example of Fleiss 1971 as it is reprinted everywhere: 14 raters, 10 items, 5 labels, kappa 0.210."""
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=0.0005)
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([[1, 1], [3, 0]])


def test_the_variance_of_nested_means_is_the_closed_form() -> None:
    """Runs and prompts drawn apart; of entities E with n prompts each, Var* = (Var(means) + mean(variances) / n) / E.

    All variances are those of the values at hand, as a bootstrap draws from them (divisor n, not n - 1).
    """
    rng = np.random.default_rng(4)
    prompts = rng.normal(size=(8, 1)) + rng.normal(scale=0.5, size=(8, 5))
    runs = rng.normal(scale=0.7, size=(3, 1))
    drawn = nested_means(runs + prompts.reshape(1, -1), [entity for entity in range(8) for _ in range(5)])
    expected = (prompts.mean(1).var() + prompts.var(1).mean() / 5) / 8 + runs.var() / 3
    assert drawn.var() == pytest.approx(expected, rel=0.13)  # 2000 draws: four standard errors of a variance
    assert drawn.mean() == pytest.approx((runs + prompts.reshape(1, -1)).mean(), abs=4 * (expected / 2000) ** 0.5)


@pytest.mark.slow
def test_a_nested_interval_covers_where_one_over_prompts_does_not() -> None:
    """Twenty entities with six prompts each, half of the variance between entities."""
    rng, entities = np.random.default_rng(5), np.repeat(np.arange(20), 6).tolist()
    nested, flat = [], []
    for _ in range(150):
        values = (rng.normal(size=(20, 1)) + rng.normal(size=(20, 6))).ravel()
        for found, interval in ((nested, nested_interval(values, entities)), (flat, mean_interval(values))):
            found.append(interval.low <= 0 <= interval.high)
    assert np.mean(nested) > 0.88  # 0.95 less four standard errors
    assert np.mean(flat) < 0.85


def test_nested_intervals_of_pairs_runs_and_missing_values() -> None:
    rng, entities = np.random.default_rng(6), np.repeat(np.arange(10), 4).tolist()
    shared = rng.normal(scale=5, size=40)
    first, second = shared + 0.5 + rng.normal(scale=0.1, size=40), shared
    assert nested_interval(first - second, entities).excludes_zero  # what prompts share is gone
    assert nested_interval(first, entities) == nested_interval(first[None], entities)
    alone, runs = nested_interval(first, entities), nested_interval([first - 3, first + 3], entities)
    assert runs.value == pytest.approx(alone.value)
    assert runs.high - runs.low > alone.high - alone.low
    assert nested_interval([1.0, math.nan, 3.0], ["a", "a", "b"]).value == 2
    assert math.isnan(nested_interval([math.nan], ["a"]).low)
    assert nested_interval([2.0, 2.0], ["a", "b"]) == Interval(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="expected a value for each of 2 prompts"):
        nested_interval([1.0], ["a", "b"])
