"""MT-bench's ratings of single answers (Zheng et al. 2023, arXiv:2306.05685): asked for, read back, summed up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from align.errors import DataError, shorten
from align.evaluation.answer_files import MTBenchQuestion
from align.evaluation.benchmark_files import json_rows
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
                f"{where}, row {number}: expected model, question_id, turn and score, numbers but the first "
                f"({shorten(repr(error))}); a reply without a rating has score {NO_RATING}, as FastChat writes it"
            ) from error
        if known[2] < 1 or (score != NO_RATING and not 1 <= score <= 10):
            raise DataError(
                f"{where}, row {number}: turn {known[2]} and score {score:g}, expected a turn from 1 and a score from "
                f"1 to 10, or {NO_RATING} without a rating"
            )
        found.append(Judgment(*known, math.nan if score == NO_RATING else score))
    return found
