"""TruthfulQA's multiple choice (Lin et al. 2022, arXiv:2109.07958): MC1 and MC2, by lm-eval's tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from align.errors import DataError
from align.evaluation.benchmark_files import json_rows, read_truthful_qa
from align.evaluation.harness import Document, run_tasks
from align.evaluation.policy import Policy
from align.evaluation.statistics import Interval, bootstrap

TASKS = ("truthfulqa_mc1", "truthfulqa_mc2")
EVERYTHING = "all questions"


class Truthfulness(NamedTuple):
    """Multiple choice on a part of the questions, in per cent."""

    part: str
    mc1: Interval
    """How often the best answer is the most probable one."""
    mc2: Interval
    """Probability of the right answers among all."""
    questions: int
    cut: int
    """How many were too long for the context and lost the start of their prompt."""


def read_choices(path: Path) -> list[Document]:
    """Return the rows lm-eval's tasks read, from `TruthfulQA.csv`, `mc_task.json`, or the hub's rows as JSON or JSONL.

    Of the CSV, MC1 has the best answer against the incorrect ones, MC2 all correct against all incorrect ones, as in
    the authors' code.
    """
    if ".csv" in Path(path).suffixes:
        return [
            _row(q.text, {q.best: 1} | dict.fromkeys(q.incorrect, 0), _labels(q.correct, q.incorrect), q.category)
            for q in read_truthful_qa(path)
        ]
    rows = []
    for number, row in enumerate(json_rows(path), 1):
        try:
            first, second = (_targets(row[key]) for key in ("mc1_targets", "mc2_targets"))
            rows.append(_row(str(row["question"]), first, second, str(row.get("category", ""))))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}, row {number}: expected question, mc1_targets and mc2_targets with labels 0 and 1 ({error!r})"
            ) from error
    return rows


def truthfulness(
    policy: Policy, rows: list[Document], *, chat: bool | None = None, batch_size: int = 8
) -> list[Truthfulness]:
    """Return MC1 and MC2 on all questions, then by category where there are several.

    MC2 is undefined, and left out, where every answer has the probability 0.
    """
    tasks: dict[str, dict[str, Any]] = {name: {} for name in TASKS}
    found = run_tasks(policy, tasks, rows, folder="truthfulqa", chat=chat, batch_size=batch_size)
    table = 100 * np.array([[answer.values["acc"] for answer in found[name]] for name in TASKS]).T
    categories = np.array([row["category"] for row in rows])
    parts = {EVERYTHING: np.ones(len(rows), dtype=bool)}
    if len(names := sorted(set(categories))) > 1:
        parts |= {str(name): categories == name for name in names}
    cut = np.array([first.cut or second.cut for first, second in zip(*(found[name] for name in TASKS), strict=True)])
    return [_part(name, table[part], int(cut[part].sum())) for name, part in parts.items()]


def _part(name: str, values: NDArray[np.float64], cut: int) -> Truthfulness:
    mc1, mc2 = bootstrap(values)
    return Truthfulness(name, mc1, mc2, len(values), cut)


def _row(question: str, first: Mapping[str, int], second: Mapping[str, int], category: str) -> Document:
    """Return a row; lm-eval takes the first of the MC1 choices for the right one."""
    best = [answer for answer, label in first.items() if label]
    if len(best) != 1 or not 0 < sum(second.values()) < len(second):
        raise DataError(f"question {question!r}: expected one right answer for MC1, right and wrong ones for MC2")
    ordered = dict.fromkeys(best, 1) | dict(first)
    return {
        "question": question,
        "category": category,
        "mc1_targets": _columns(ordered),
        "mc2_targets": _columns(second),
    }


def _columns(labels: Mapping[str, int]) -> dict[str, list[Any]]:
    return {"choices": list(labels), "labels": list(labels.values())}


def _labels(correct: Iterable[str], incorrect: Iterable[str]) -> dict[str, int]:
    return dict.fromkeys(incorrect, 0) | dict.fromkeys(correct, 1)


def _targets(value: Mapping[str, Any]) -> dict[str, int]:
    labels = dict(zip(value["choices"], value["labels"], strict=True)) if "choices" in value else dict(value)
    if not all(isinstance(k, str) and k.strip() and v in (0, 1) for k, v in labels.items()):
        raise ValueError("an answer that is empty, or a label other than 0 and 1")
    return {answer: int(label) for answer, label in labels.items()}
