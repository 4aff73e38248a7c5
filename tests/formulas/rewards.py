"""Bradley-Terry losses with loops over pairs."""

from __future__ import annotations

import math
from collections.abc import Callable


def list_loss(
    rewards: list[float], ranks: list[int], margins: list[float] | None = None, centering: float = 0.0
) -> float:
    losses = []
    for i, better in enumerate(rewards):
        for j, worse in enumerate(rewards):
            if ranks[i] < ranks[j]:
                margin = margins[i] - margins[j] if margins else 0.0
                difference = better - worse - margin
                losses.append(math.log1p(math.exp(-difference)) + centering * (better + worse) ** 2)
    return sum(losses) / len(losses)


def strength_loss(
    rewards: list[float], ranks: list[int], labels: list[float], formula: Callable[[float, float], float]
) -> float:
    losses = [
        formula(rewards[i] - rewards[j], labels[i] - labels[j])
        for i in range(len(rewards))
        for j in range(len(rewards))
        if ranks[i] < ranks[j]
    ]
    return sum(losses) / len(losses)


def masked_squares(
    points: list[list[float]], targets: list[list[float | None]], unit: float, per_example: bool = False
) -> float:
    """Mean squared error over known labels, or of each row first."""
    rows = [
        [((p - t) / unit) ** 2 for p, t in zip(ps, ts, strict=True) if t is not None]
        for ps, ts in zip(points, targets, strict=True)
    ]
    if per_example:
        means = [sum(row) / len(row) for row in rows if row]
        return sum(means) / len(means)
    known = [square for row in rows for square in row]
    return sum(known) / len(known)
