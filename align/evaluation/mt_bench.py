"""MT-bench's ratings of single answers (Zheng et al. 2023, arXiv:2306.05685): asked for, read back, summed up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from align.errors import DataError, shorten
from align.evaluation.answer_files import MTBenchQuestion
from align.evaluation.benchmark_files import json_rows
from align.evaluation.statistics import Line, bootstrap
from align.judges.language_judge import LanguageJudge
from align.judges.mt_bench_prompts import REFERENCE_CATEGORIES, rating_prompt

NO_RATING = -1
"""What FastChat stores as the score of a reply without a rating."""


Average = Literal["judgments", "questions"]
"""Over all ratings, as FastChat's `show_result.py`, or over questions, the ratings of one averaged first."""


class Judgment(NamedTuple):
    """A rating of one turn of an answer."""

    model: str
    question_id: int
    turn: int
    score: float
    """From 1 to 10; NaN without a rating."""


def read_answers(path: Path) -> tuple[str, dict[int, list[str]]]:
    """Return the model of an answer file in FastChat's format, and the turns of its first choice by question."""
    answers: dict[int, list[str]] = {}
    models = set()
    for number, row in enumerate(json_rows(path), 1):
        try:
            turns = row["choices"][0]["turns"]
            models.add(str(row["model_id"]))
            if not turns or not all(isinstance(turn, str) for turn in turns) or int(row["question_id"]) in answers:
                raise ValueError("turns that are no texts, or a question that stands twice")
            answers[int(row["question_id"])] = turns
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"{path}, row {number}: expected question_id, model_id and choices[0].turns ({shorten(repr(error))})"
            ) from error
    if len(models) != 1:
        raise DataError(f"{path}: answers of {len(models)} models, expected those of one")
    return models.pop(), answers


def judge_answers(
    judge: LanguageJudge,
    questions: Sequence[MTBenchQuestion],
    model: str,
    answers: Mapping[int, Sequence[str]],
    references: Mapping[int, Sequence[str]],
    *,
    now: float,
) -> list[dict[str, Any]]:
    """Return judgments as FastChat's `gen_judgment.py --mode single` writes them, one row for each turn.

    The judge sees a reference answer in mathematics, reasoning and coding. A reply that holds no rating in the strict
    form asked for has the score -1, though FastChat's laxer rule might find one.
    """
    asked = []
    settings = judge.settings
    for question in questions:
        turns = _answers_to(question, answers, f"model {model}")
        known = _answers_to(question, references, "references") if question.category in REFERENCE_CATEGORIES else ()
        for n in range(1, len(question.turns) + 1):
            prompted = rating_prompt(
                question.turns[:n], turns[:n], known[:n], settings=settings, fences=judge.prompt.fences
            )
            asked.append((question.question_id, n, prompted))
    verdicts = judge.rate([prompted.question for _, _, prompted in asked])
    return [
        {
            "question_id": number,
            "model": model,
            "judge": [judge.responder.name, prompted.name],
            "judgment": verdict.text,
            "score": NO_RATING if math.isnan(verdict.first) else verdict.first,
            "turn": turn,
            "tstamp": now,
        }
        for (number, turn, prompted), verdict in zip(asked, verdicts, strict=True)
    ]


def _answers_to(question: MTBenchQuestion, answers: Mapping[int, Sequence[str]], where: str) -> Sequence[str]:
    found = answers.get(question.question_id, ())
    if len(found) < len(question.turns):
        raise DataError(
            f"question {question.question_id} ({question.category}): {where} have {len(found)} of "
            f"{len(question.turns)} answers"
        )
    return found


def as_judgments(rows: Sequence[Mapping[str, Any]], where: str) -> list[Judgment]:
    """Return the ratings of rows in FastChat's format."""
    found = []
    for number, row in enumerate(rows, 1):
        try:
            score = float(row["score"])
            known = (str(row["model"]), int(row["question_id"]), int(row["turn"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{where}, row {number}: expected model, question_id, turn and score ({shorten(repr(error))})"
            ) from error
        if known[2] < 1 or (score != NO_RATING and not 1 <= score <= 10):
            raise DataError(
                f"{where}, row {number}: turn {known[2]} and score {score:g}, expected a turn from 1 and a score from "
                f"1 to 10, or {NO_RATING} without a rating"
            )
        found.append(Judgment(*known, math.nan if score == NO_RATING else score))
    return found


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
    if names[0] != names[1]:
        raise DataError(f"judgments of {first[0].model} and {second[0].model} are not of the same questions")
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
