"""What judgments mean for the pairs of responses inside an item."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from align.annotation.annotation_store import RaterJudgment
from align.annotation.items import AnnotationItem, Choice

Outcomes = dict[tuple[int, int], float]
"""By two indices of responses, the lower one first: 1 the first is better, 0.5 a tie, 0 the second; or a mean."""


def outcomes(item: AnnotationItem, choice: Choice) -> Outcomes:
    """Return what one judgment says; NaN for two responses that are neither best nor worst: they were not compared."""
    found = {}
    for i, j in combinations(range(len(item.responses)), 2):
        if choice.best is None or item.responses[i] == item.responses[j]:
            found[i, j] = 0.5
        elif choice.best == i or choice.worst == j:
            found[i, j] = 1.0
        else:
            found[i, j] = 0.0 if choice.best == j or choice.worst == i else math.nan
    return found


def mean_outcomes(item: AnnotationItem, choices: Sequence[Choice]) -> Outcomes:
    """Return the mean over raters, of those whose judgment compares the two."""
    votes = [outcomes(item, choice) for choice in choices]
    found = {}
    for pair in votes[0]:
        known = [vote[pair] for vote in votes if not math.isnan(vote[pair])]
        found[pair] = float(np.mean(known)) if known else math.nan
    return found


def places(item: AnnotationItem, choices: Sequence[Choice]) -> list[float]:
    """Return a score per response: 1 the best, 0 the worst, 0.5 the rest and ties, as a mean over raters."""
    table = np.full((len(choices), len(item.responses)), 0.5)
    for row, choice in zip(table, choices, strict=True):
        if choice.best is not None and choice.worst is not None:
            row[choice.best], row[choice.worst] = 1.0, 0.0
    return [float(value) for value in table.mean(axis=0)]


def by_item(judgments: Sequence[RaterJudgment]) -> Mapping[str, list[RaterJudgment]]:
    """Return the judgments of each item."""
    found: dict[str, list[RaterJudgment]] = {}
    for judged in judgments:
        found.setdefault(judged.item, []).append(judged)
    return found
