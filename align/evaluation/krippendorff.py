"""Krippendorff's alpha: agreement of any number of raters, who need not all have rated everything."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from align.evaluation.statistics import Interval, bootstrap

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Array = NDArray[np.float64]


def krippendorff_alpha(units: Sequence[Sequence[Hashable | None]], values: Sequence[Any], level: Level) -> float:
    """Return 1 for full agreement, 0 for what chance would give; NaN where nothing was rated twice, or all alike.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".

    Args:
        units: What each rater said of one thing, None where a rater said nothing.
        values: All values, in their order; numbers unless the level is nominal or ordinal.
        level: What the values are, and so how far two of them are apart.
    """
    return float(_alpha(_coincidences(units, values), values, level))


def alpha_interval(clusters: Sequence[Sequence[Sequence[Any]]], values: Sequence[Any], level: Level) -> Interval:
    """Return alpha with its bootstrap interval over clusters of units that belong together, such as one prompt's."""
    tables = np.array([_coincidences(units, values).ravel() for units in clusters])
    size = len(values)

    def statistic(drawn: Array) -> Array:
        return _alpha(drawn.sum(axis=-2).reshape(*drawn.shape[:-2], size, size), values, level)[..., None]

    return bootstrap(tables, statistic)[0]


def _coincidences(units: Sequence[Sequence[Any]], values: Sequence[Any]) -> Array:
    """Return `[value, value]`: ordered pairs of ratings of one unit, each unit weighing as many as its ratings."""
    table = np.zeros((len(values), len(values)))
    for unit in units:
        counts = np.array([sum(type(said) is type(v) and said == v for said in unit) for v in values], dtype=np.float64)
        if counts.sum() > 1:
            table += (np.outer(counts, counts) - np.diag(counts)) / (counts.sum() - 1)
    return table


def _alpha(table: Array, values: Sequence[Any], level: Level) -> Array:
    counts = table.sum(axis=-1)
    total = counts.sum(axis=-1)
    distance = _distance(counts, values, level)
    observed = (table * distance).sum(axis=(-2, -1))
    expected = (counts[..., :, None] * counts[..., None, :] * distance).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - (total - 1) * observed / expected, math.nan))


def _distance(counts: Array, values: Sequence[Any], level: Level) -> Array:
    """Return the squared difference of every two values; of ordinal ones it depends on how often each was said."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "ordinal":  # half of both ends and all between: the distance of the middles of their ranks
        middles = counts.cumsum(axis=-1) - counts / 2
        return np.asarray((middles[..., :, None] - middles[..., None, :]) ** 2)
    numbers = np.array(values, dtype=np.float64)
    apart = numbers[:, None] - numbers[None, :]
    if level == "ratio":
        both = numbers[:, None] + numbers[None, :]
        apart = np.divide(apart, both, out=np.zeros_like(apart), where=both != 0)
    return apart**2
