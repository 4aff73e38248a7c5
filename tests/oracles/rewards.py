"""Bradley-Terry losses with loops over pairs."""

from __future__ import annotations

import math


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
