"""What stands at the quantiles of a step, against plain sorting in Python."""

from __future__ import annotations

import math
import random

import pytest
import torch

from align.objectives.optimal_transport import quantiles


@pytest.mark.parametrize("pairs", [1, 2, 7, 23])
@pytest.mark.parametrize("padding", [0, 1, 9])
def test_a_pair_meets_what_stands_at_its_rank(pairs: int, padding: int) -> None:
    draw = random.Random(pairs + 100 * padding)
    ties = [draw.randrange(4) + draw.choice([0, 0.5]) for _ in range(pairs)]
    rows = [(float(tie), draw.gauss(0, 1), draw.uniform(0.1, 2)) for tie in ties]
    if pairs == 23:
        rows[3], rows[8] = (math.inf, -math.inf, 1.0), (-math.inf, math.inf, 0.5)
    strewn = rows + [(draw.gauss(0, 9), draw.gauss(0, 9), 0.0) for _ in range(padding)]
    draw.shuffle(strewn)
    found = quantiles(*torch.tensor(strewn, dtype=torch.float64).unbind(1))
    assert [list(row) for row in zip(*(values.tolist() for values in found), strict=True)] == expected(strewn)


def expected(rows: list[tuple[float, float, float]]) -> list[list[float]]:
    """Return lower value at the upper's rank, upper value at the lower's rank and that pair's share; none for padding."""
    real = [n for n, row in enumerate(rows) if row[2] > 0]
    by_upper, by_lower = (sorted(real, key=lambda n, column=column: rows[n][column]) for column in (0, 1))
    made = [[0.0, 0.0, 0.0] for _ in rows]
    for upper, lower in zip(by_upper, by_lower, strict=True):
        made[upper][0] = rows[lower][1]
        made[lower][1:] = [rows[upper][0], rows[upper][2] / rows[lower][2]]
    return made
