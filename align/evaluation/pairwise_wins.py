"""Several models on the same prompts: who wins how often against whom, and whether one is better than all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np

from align.evaluation.statistics import Interval, bootstrap, paired_difference

Values = Mapping[str, Sequence[float]]
"""One value per prompt, by model; NaN where there is none."""


def win_matrix(values: Values, *, seed: int = 0) -> dict[tuple[str, str], Interval]:
    """Return the share of prompts on which one model has the higher value than the other; a tie counts half.

    Prompts without a value of either model are left out; models without a prompt in common are no pair.
    """
    _check(values)
    columns = {}
    for one, other in permutations(values, 2):
        a, b = np.asarray(values[one], dtype=np.float64), np.asarray(values[other], dtype=np.float64)
        missing = np.isnan(a) | np.isnan(b)
        if not missing.all():
            columns[one, other] = np.where(missing, np.nan, np.where(a == b, 0.5, a > b))
    if not columns:
        return {}
    return dict(zip(columns, bootstrap(np.stack(list(columns.values()), axis=1), seed=seed), strict=True))


def best(values: Values, *, seed: int = 0) -> str | None:
    """Return the model that is better than each other one beyond the noise, None where there is no such model.

    Every one of its paired differences has a 95 % interval above 0. As all of them must, no correction for their
    number is needed (Berger 1982, intersection-union test).
    """
    _check(values)
    means = {name: float(np.nanmean(v)) for name, v in values.items() if not np.isnan(v).all()}
    if len(means) < 2 or len(means) < len(values):
        return None
    top = max(means, key=lambda name: means[name])
    others = [name for name in values if name != top]
    clear = all(paired_difference(values[top], values[name], seed=seed).low > 0 for name in others)
    return top if clear and len(values[top]) > 1 else None


def _check(values: Values) -> None:
    if len({len(v) for v in values.values()}) > 1:
        raise ValueError(f"models on different prompts: { ({name: len(v) for name, v in values.items()}) }")
