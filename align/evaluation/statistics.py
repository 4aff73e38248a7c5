"""Intervals and agreement: bootstrap over prompts, and over what they are nested in, paired comparisons, kappa."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 2000


class Interval(NamedTuple):
    """A value with its bootstrap interval over prompts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def excludes_zero(self) -> bool:
        """Return whether the whole interval lies on one side of 0: only then may one of two be called better."""
        return self.low > 0 or self.high < 0


class Line(NamedTuple):
    """A measure on a part of a benchmark."""

    part: str
    measure: str
    value: Interval
    items: int
    """How many rows it is over."""
    left_out: int = 0
    """Further rows of the part that could not be read."""


def bootstrap(
    rows: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda x: np.nanmean(x, axis=-2),
    *,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """Return the statistic of a `[prompt, column]` table with percentile intervals, prompts drawn with replacement.

    Rows stay whole, so that columns are compared on the same prompts (paired). Efron and Tibshirani 1993, chapter 13.

    Args:
        rows: One row per prompt; NaN marks what is missing.
        statistic: From `[..., prompt, column]` to `[..., value]`; the mean of each column by default.
        level: Share of resamples inside the interval.
        seed: Of the draws; the same seed gives the same interval.
    """
    table = np.asarray(rows, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"bootstrap needs a table with a row per prompt, got shape {table.shape}")

    def of_rows(places: NDArray[np.intp], axis: int = -1) -> NDArray[np.float64]:
        return np.moveaxis(np.atleast_1d(statistic(table[places])), -1, 0)

    tail = (1 - level) / 2
    with warnings.catch_warnings():  # a resample of missing values alone is NaN, and is left out
        warnings.simplefilter("ignore", RuntimeWarning)
        values = np.atleast_1d(statistic(table))
        if len(table) == 1:
            return [Interval(float(v), float(v), float(v)) for v in values]
        found = stats.bootstrap(
            (np.arange(len(table)),),
            of_rows,
            n_resamples=RESAMPLES,
            batch=max(1, 4_000_000 // table.size),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        low, high = np.nanquantile(found.bootstrap_distribution, [tail, 1 - tail], axis=-1)
    return [Interval(float(v), float(a), float(b)) for v, a, b in zip(values, low, high, strict=True)]


def mean_interval(values: ArrayLike, *, seed: int = 0) -> Interval:
    """Return the mean of one value per prompt."""
    return bootstrap(np.asarray(values, dtype=np.float64)[:, None], seed=seed)[0]


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int = 0) -> Interval:
    """Return the mean of first - second over the same prompts."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired comparison needs the same prompts, got {len(a)} and {len(b)} values")
    return mean_interval(a - b, seed=seed)


def nested_interval(values: ArrayLike, entities: Sequence[Hashable], *, level: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of `[prompt]` or `[run, prompt]` values, its interval over runs, entities and prompts.

    Entities are drawn with replacement, then prompts within each entity drawn, and apart from them runs (such as
    seeds). All runs have the same prompts, so that one draw of prompts is for all of them: runs and prompts are crossed
    (the pigeonhole bootstrap, Owen 2007, arXiv:0712.1111; nested levels as in Davison and Hinkley 1997, section 3.8).
    Drawing at every level errs on the wide side within entities; an interval over few entities or runs is too narrow.

    Args:
        values: Differences, where two rows are compared in pairs; NaN marks what is missing.
        entities: What each prompt is about.
        level: Share of resamples inside the interval.
        seed: Of the draws; the same seed gives the same interval.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.shape[1] != len(entities) or not table.size:
        raise ValueError(f"expected a value for each of {len(entities)} prompts, got shape {np.shape(values)}")
    value = float(np.nanmean(table)) if np.isfinite(table).any() else float("nan")
    found = nested_means(table, entities, seed=seed)
    tail = (1 - level) / 2
    low, high = np.nanquantile(found, [tail, 1 - tail]) if np.isfinite(found).any() else (value, value)
    return Interval(value, float(low), float(high))


def nested_means(table: NDArray[np.float64], entities: Sequence[Hashable], *, seed: int = 0) -> NDArray[np.float64]:
    """Return the mean of each resample of a `[run, prompt]` table; one whose values are all missing is NaN."""
    generator = np.random.default_rng(seed)
    members = np.unique([repr(entity) for entity in entities], return_inverse=True)[1]
    places = [np.flatnonzero(members == entity) for entity in range(members.max() + 1)]
    drawn = generator.multinomial(len(places), np.full(len(places), 1 / len(places)), RESAMPLES)
    prompts = np.zeros((RESAMPLES, table.shape[1]))
    for entity, own in enumerate(places):  # an entity drawn k times has its prompts drawn k times
        prompts[:, own] = generator.multinomial(drawn[:, entity] * len(own), np.full(len(own), 1 / len(own)))
    runs = generator.multinomial(len(table), np.full(len(table), 1 / len(table)), RESAMPLES)
    there = np.isfinite(table)
    sums = ((runs @ np.where(there, table, 0.0)) * prompts).sum(1)
    counts = ((runs @ there) * prompts).sum(1)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(RESAMPLES, np.nan), where=counts > 0)
    return means


def prompt_means(values: ArrayLike, owners: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean value of each prompt that has any; `owners` is the prompt of each value."""
    sums, counts = np.bincount(owners, weights=values), np.bincount(owners)
    means: NDArray[np.float64] = sums[counts > 0] / counts[counts > 0]
    return means


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Return the agreement of two raters beyond chance (Cohen 1960): 1 full, 0 chance; NaN when chance is certain."""
    if len(first) != len(second) or not first:
        raise ValueError(f"two raters of the same items are needed, got {len(first)} and {len(second)} labels")
    labels = set(first) | set(second)
    expected = sum(first.count(label) * second.count(label) for label in labels) / len(first) ** 2
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def fleiss_kappa(counts: ArrayLike) -> float:
    """Return the agreement of several raters beyond chance (Fleiss 1971), from `[item, label]` counts of ratings.

    Every item has the same number of ratings, at least 2. NaN when all ratings are the same label.
    """
    table = np.asarray(counts, dtype=np.float64)
    raters = table.sum(axis=1)
    if table.ndim != 2 or not len(table) or np.ptp(raters) or raters[0] < 2:
        raise ValueError("Fleiss' kappa needs the same number of ratings, at least 2, for each item")
    observed = float(((table**2).sum(axis=1) - raters).mean() / (raters[0] * (raters[0] - 1)))
    expected = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")
