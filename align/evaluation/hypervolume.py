"""Several rewards at once: dominance, fronts and hypervolumes, with bootstrap intervals over prompts."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "point reward"]
"""More is better in every column; negate what should be small."""


def dominates(points: Points, others: Points) -> bool:
    """Return whether every one of `others` has a point that is at least as good throughout, and better somewhere."""
    at_least = (points[:, None] >= others[None]).all(-1)
    better = (points[:, None] > others[None]).any(-1)
    return bool((at_least & better).any(0).all())


def curve_dominates(curve: Points, others: Points) -> bool:
    """Return `dominates` for a curve of two rewards that may also stop between its points.

    Mixing two policies by chance reaches the straight line between them.
    """
    front = pareto_front(curve)
    starts, ends = front[:-1, None], front[1:, None]
    shares = np.linspace(0, 1, 201)[None, :, None]
    return dominates(
        np.concatenate([front, ((1 - shares) * starts + shares * ends).reshape(-1, front.shape[1])]), others
    )


def pareto_front(points: Points) -> Points:
    """Return the points that no other dominates, each once, in the order of the first reward."""
    distinct = np.unique(points, axis=0)
    at_least = (distinct[:, None] >= distinct[None]).all(-1)
    front: Points = distinct[at_least.sum(0) == 1]  # by itself
    return front


def hypervolume(points: Points, reference: Sequence[float]) -> float:
    """Return the volume that points dominate above a reference point, by moocore; points below it add nothing."""
    corner = np.asarray(reference, dtype=np.float64)
    if points.ndim != 2 or corner.ndim != 1 or not points.shape[1] == len(corner) >= 2:
        raise ValueError(
            f"hypervolume takes points of two rewards or more and as many references, got shapes {points.shape} and "
            f"{corner.shape}"
        )
    if np.isnan(points).any() or np.isnan(corner).any():
        raise ValueError("hypervolume takes numbers, got NaN among points or references")
    inside = points[(points > corner).all(1)]
    return float(moocore.hypervolume(inside, ref=corner, maximise=True)) if len(inside) else 0.0


def hypervolume_interval(
    rewards: Float[np.ndarray, "point prompt reward"], reference: Sequence[float], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the hypervolume of mean rewards, drawing prompts anew.

    Every draw takes the same prompts for all points, which were measured on the same ones.
    """
    rng = np.random.default_rng(seed)
    count = rewards.shape[1]
    volumes = [hypervolume(rewards[:, rng.integers(count, size=count)].mean(1), reference) for _ in range(draws)]
    low, high = np.percentile(volumes, [2.5, 97.5])
    return float(low), float(high)
