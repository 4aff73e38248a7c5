"""Fronts and hypervolumes: worked numbers, a count of cells, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest

from align.evaluation.hypervolume import curve_dominates, dominates, hypervolume, hypervolume_interval, pareto_front

WORKED = np.array([[70.0, -60.0], [66.0, -45.0], [50.0, -20.0]])
"""Helpfulness and verbosity (70, 60), (66, 45), (50, 20); verbosity should be small."""


def test_the_worked_hypervolume() -> None:
    """Against (40, 80): 30 x 20 + 26 x 15 + 10 x 25 = 600 + 390 + 250 = 1240."""
    assert hypervolume(WORKED, (40, -80)) == 1240.0
    assert hypervolume(WORKED[::-1], (40, -80)) == 1240.0
    assert hypervolume(np.concatenate([WORKED, [[60.0, -50.0], [30.0, 0.0]]]), (40, -80)) == 1240.0
    assert hypervolume(WORKED, (80, -80)) == 0.0
    assert hypervolume(np.empty((0, 2)), (0, 0)) == 0.0
    with pytest.raises(ValueError, match="two rewards"):
        hypervolume(np.ones((2, 3)), (0, 0))


def test_the_hypervolume_is_a_count_of_dominated_cells() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 30, size=(12, 2)).astype(float)
    cells = [(x, y) for x in range(30) for y in range(30) if any(x < p and y < q for p, q in points)]
    assert hypervolume(points, (0, 0)) == len(cells)


def test_fronts() -> None:
    points = np.array([[1.0, 5.0], [2.0, 4.0], [2.0, 4.0], [2.0, 3.0], [0.0, 5.0], [3.0, 0.0]])
    assert pareto_front(points).tolist() == [[1.0, 5.0], [2.0, 4.0], [3.0, 0.0]]
    three = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    assert pareto_front(three).tolist() == [[0.0, 0.0, 2.0], [1.0, 1.0, 1.0]]


def test_dominance() -> None:
    better = WORKED + np.array([1.0, 0.0])
    assert dominates(better, WORKED)
    assert not dominates(WORKED, better)
    assert not dominates(WORKED, WORKED)
    middle = np.array([[57.9, -32.5]])  # the middle of the last two points is (58, -32.5)
    assert not dominates(WORKED, middle)
    assert curve_dominates(WORKED, middle)
    assert not curve_dominates(WORKED, middle + 0.2)


def test_intervals_are_over_prompts() -> None:
    rng = np.random.default_rng(1)
    rewards = WORKED[:, None] + rng.normal(0, 4, size=(3, 200, 2))
    low, high = hypervolume_interval(rewards, (40, -80), draws=300)
    assert low < hypervolume(rewards.mean(1), (40, -80)) < high
    wide = hypervolume_interval(WORKED[:, None] + rng.normal(0, 16, size=(3, 200, 2)), (40, -80), draws=300)
    assert wide[1] - wide[0] > 2 * (high - low)
    exact = np.repeat(WORKED[:, None], 50, axis=1)
    assert hypervolume_interval(exact, (40, -80), draws=5) == (1240.0, 1240.0)
