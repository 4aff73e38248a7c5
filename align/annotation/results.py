"""Who wins, with intervals over prompts, and what each rater has done."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from align.annotation.annotation_store import RaterJudgment
from align.annotation.items import AnnotationItem
from align.annotation.votes import Outcomes, by_item, mean_outcomes
from align.evaluation.comparison import Comparison, compare


class RaterSummary(NamedTuple):
    """What one rater has done."""

    rater: str
    judged: int
    ties: float
    """Share of ties."""
    first: float
    """Share of the decided pairs in which the response on the left was chosen; NaN where there are no pairs."""


def compare_names(
    items: Sequence[AnnotationItem], judgments: Sequence[RaterJudgment]
) -> dict[tuple[str, str], Comparison]:
    """Return wins, ties and losses for every two names, a prompt being one row of the bootstrap.

    A prompt's score is the mean over its raters (and over its items, where a name has several responses): a win above
    0.5. Items with one text on all sides are ties that nobody is asked about; they count as far as raters have come, so
    that half-done work is no other sample than the whole.
    """
    votes = by_item(judgments)
    rows: dict[tuple[str, str], dict[str, list[tuple[float, int, int]]]] = {}
    for item in _reached(items, votes):
        found = mean_outcomes(item, [j.choice for j in votes[item.id]]) if item.asked else _ties(item)
        for (i, j), score in found.items():
            names = (item.names[i], item.names[j])
            if names[0] == names[1] or math.isnan(score):
                continue
            swap = names[::-1] in rows
            row = (
                (1 - score, len(item.responses[j]), len(item.responses[i]))
                if swap
                else (score, len(item.responses[i]), len(item.responses[j]))
            )
            prompts = rows.setdefault(names[::-1] if swap else names, {})
            prompts.setdefault(json.dumps(item.prompt), []).append(row)
    return {names: _compare(list(prompts.values())) for names, prompts in rows.items()}


def _compare(prompts: Sequence[Sequence[tuple[float, int, int]]]) -> Comparison:
    means = np.array([np.mean(rows, axis=0) for rows in prompts])
    return compare(means[:, [0, 0]], [(round(a), round(b)) for a, b in means[:, 1:]])


def _reached(items: Sequence[AnnotationItem], votes: Mapping[str, object]) -> list[AnnotationItem]:
    """Return the judged items, and those not asked that stand before the last of them."""
    judged = [n for n, item in enumerate(items) if item.id in votes]
    if not judged:
        return []
    open_after = any(item.asked for item in items[judged[-1] + 1 :])
    end = judged[-1] + 1 if open_after else len(items)
    return [item for item in items[:end] if not item.asked or item.id in votes]


def _ties(item: AnnotationItem) -> Outcomes:
    return dict.fromkeys(combinations(range(len(item.responses)), 2), 0.5)


def summaries(judgments: Sequence[RaterJudgment]) -> list[RaterSummary]:
    """Return what each rater has done."""
    found = []
    for name in dict.fromkeys(j.rater for j in judgments):
        own = [j for j in judgments if j.rater == name]
        decided = [j.order[0] == j.choice.best for j in own if j.choice.best is not None and len(j.order) == 2]
        ties = float(np.mean([j.choice.best is None for j in own]))
        found.append(RaterSummary(name, len(own), ties, float(np.mean(decided)) if decided else math.nan))
    return found
