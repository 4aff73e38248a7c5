"""What MT-bench's judgments amount to: ratings by turn and category, differences, and how FastChat averages them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from align.errors import DataError
from align.evaluation.mt_bench import Average, Judgment
from align.evaluation.statistics import Line, bootstrap


def rating_lines(
    judgments: Sequence[Judgment], categories: Mapping[int, str], *, average: Average = "judgments", seed: int = 0
) -> list[Line]:
    """Return the mean rating of one model: by turn, over both, and by category; intervals are over questions."""
    table, names = _table(judgments), sorted({j.question_id for j in judgments})
    return lines_of(table, names, categories, weights=_counts(judgments) if average == "judgments" else None, seed=seed)


def rating_differences(
    first: Sequence[Judgment], second: Sequence[Judgment], categories: Mapping[int, str], average: Average = "judgments"
) -> list[Line]:
    """Return first less second on the same questions. Raises DataError where they are not the same."""
    names = [sorted({j.question_id for j in part}) for part in (first, second)]
    if lone := sorted(set(names[0]) ^ set(names[1])):
        raise DataError(
            f"judgments of {first[0].model} and {second[0].model} are not of the same questions: {len(lone)} are "
            f"judged for one of them alone, the first {lone[0]}; sum up each model from a file of its own, or judge "
            "the rest"
        )
    if average == "questions":
        return lines_of(_table(first) - _table(second), names[0], categories)
    tables = [np.concatenate([_table(part), _counts(part)], axis=1) for part in (first, second)]
    turns = tables[0].shape[1] // 2
    value = np.concatenate([tables[0][:, :turns], tables[1][:, :turns]], axis=1)
    weight = np.concatenate([tables[0][:, turns:], tables[1][:, turns:]], axis=1)
    return lines_of(value, names[0], categories, weights=weight, apart=True)


def judged_again(judgments: Sequence[Judgment]) -> int:
    """Return how many turns of questions have several ratings."""
    return int((_counts(judgments) > 1).sum())


def _counts(judgments: Sequence[Judgment]) -> NDArray[np.float64]:
    """Return `[question, turn]`: the number of ratings."""
    names = sorted({j.question_id for j in judgments})
    counts = np.zeros((len(names), max(j.turn for j in judgments)))
    for judgment in judgments:
        counts[names.index(judgment.question_id), judgment.turn - 1] += not math.isnan(judgment.score)
    return counts


def _table(judgments: Sequence[Judgment]) -> NDArray[np.float64]:
    """Return `[question, turn]`: the mean rating of each, NaN where there is none."""
    names = sorted({j.question_id for j in judgments})
    turns = max(j.turn for j in judgments)
    sums, counts = np.zeros((len(names), turns)), np.zeros((len(names), turns))
    for judgment in judgments:
        if not math.isnan(judgment.score):
            place = names.index(judgment.question_id), judgment.turn - 1
            sums[place] += judgment.score
            counts[place] += 1
    return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)


def lines_of(
    table: NDArray[np.float64],
    names: Sequence[int],
    categories: Mapping[int, str],
    *,
    weights: NDArray[np.float64] | None = None,
    apart: bool = False,
    seed: int = 0,
) -> list[Line]:
    """Return the means of a table of questions and turns, of each turn and of each category.

    Args:
        table: A rating for each question and turn, NaN without one.
        names: The questions.
        categories: Of the questions.
        weights: What each rating weighs; null weighs all the same.
        apart: The table holds the turns of two models; the second is taken from the first.
        seed: Of the bootstrap.
    """
    own = np.array([categories.get(name, "") for name in names])
    count = np.where(np.isnan(table), 0.0, 1.0 if weights is None else weights)
    columns = table.shape[1] // 2 if apart else table.shape[1]
    groups = {f"turn {n + 1}": (np.ones(len(own), dtype=bool), [n]) for n in range(columns)}
    groups["all turns"] = (np.ones(len(own), dtype=bool), list(range(columns)))
    groups |= {str(c): (own == c, groups["all turns"][1]) for c in sorted(set(own)) if c}
    lines = []
    for part, (inside, turns) in groups.items():
        sides = [turns, [columns + t for t in turns]] if apart else [turns]
        sums = [np.nansum(table[inside][:, s] * count[inside][:, s], axis=1) for s in sides]
        rows = np.stack(
            [x for s, total in zip(sides, sums, strict=True) for x in (total, count[inside][:, s].sum(1))], 1
        )
        (value,) = bootstrap(rows, _ratio, seed=seed)
        lines.append(Line(part, "rating", value, int(count[inside][:, turns].sum())))
    return lines


def _ratio(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums over counts, `[..., question, sum or count]`; of two models the first less the second."""
    totals = rows.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        means = totals[..., 0::2] / totals[..., 1::2]
    found: NDArray[np.float64] = means[..., :1] - means[..., 1:] if means.shape[-1] > 1 else means
    return found
