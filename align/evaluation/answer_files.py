"""Files of answers in the formats of other tools, so that their own commands run on them unchanged."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from align.errors import DataError
from align.evaluation.benchmark_files import json_rows
from align.records import Message
from align.sampling.generation import Generation
from align.strict_json import json_text

Answer = Callable[[Sequence[tuple[Message, ...]], Generation], Sequence[str]]
"""Answers dialogues, one text each."""
MT_BENCH_TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""FastChat's `temperature_config`; 0.7 for other categories."""


class MTBenchQuestion(NamedTuple):
    """A question of MT-bench: turns that are asked one after the other."""

    question_id: int
    category: str
    turns: tuple[str, ...]


def alpaca_eval_answers(
    answer: Answer, instructions: Sequence[tuple[str, str]], name: str, generation: Generation
) -> str:
    """Return the JSON that `alpaca_eval --model_outputs FILE` reads.

    Args:
        answer: Who answers.
        instructions: (instruction, dataset) in AlpacaEval's order.
        name: The name of the model on the leaderboard (`generator`).
        generation: How to sample, one response per instruction.
    """
    answers = answer([(Message("user", instruction),) for instruction, _ in instructions], generation)
    rows = [
        {"instruction": instruction, "output": text, "generator": name, "dataset": dataset}
        for (instruction, dataset), text in zip(instructions, answers, strict=True)
    ]
    return json_text(rows, indent=2)


def mt_bench_answers(
    answer: Answer, questions: Sequence[MTBenchQuestion], name: str, generation: Generation, *, now: float
) -> str:
    """Return the JSONL that FastChat's `gen_judgment.py` reads from `data/mt_bench/model_answer/NAME.jsonl`.

    Each turn is asked with the answers before it; the temperature is that of the question's category, as in FastChat.
    """
    answered: dict[int, list[str]] = {q.question_id: [] for q in questions}
    for turn in range(max(len(q.turns) for q in questions)):
        for temperature in sorted({_temperature(q) for q in questions}):
            asked = [q for q in questions if len(q.turns) > turn and _temperature(q) == temperature]
            dialogues = [_dialogue(q, answered[q.question_id]) for q in asked]
            texts = answer(dialogues, generation.at(temperature)) if dialogues else []
            for question, text in zip(asked, texts, strict=True):
                answered[question.question_id].append(text)
    return "".join(json_text(_row(q, answered[q.question_id], name, now)) + "\n" for q in questions)


def read_alpaca_instructions(path: Path) -> list[tuple[str, str]]:
    """Read AlpacaEval's evaluation set or any model's outputs: JSON rows with `instruction` and `dataset`."""
    return [(str(row["instruction"]), str(row.get("dataset", ""))) for row in _rows(path, "instruction")]


def read_mt_bench_questions(path: Path) -> list[MTBenchQuestion]:
    """Read `question.jsonl`."""
    questions: dict[int, MTBenchQuestion] = {}
    for number, row in enumerate(_rows(path, "turns"), 1):
        turns, name = row["turns"], row.get("question_id")
        texts = isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns)
        if not isinstance(name, int) or name in questions or not texts:
            raise DataError(
                f"{path}, row {number}: expected a question_id of its own and a list of turns, found {row!r:.60}"
            )
        questions[name] = MTBenchQuestion(name, str(row.get("category", "")), tuple(turns))
    return list(questions.values())


def _temperature(question: MTBenchQuestion) -> float:
    return MT_BENCH_TEMPERATURES.get(question.category, 0.7)


def _dialogue(question: MTBenchQuestion, answers: Sequence[str]) -> tuple[Message, ...]:
    turns: list[Message] = []
    for asked, answer in zip(question.turns, answers, strict=False):
        turns += [Message("user", asked), Message("assistant", answer)]
    return (*turns, Message("user", question.turns[len(answers)]))


def _row(question: MTBenchQuestion, answers: Sequence[str], name: str, now: float) -> dict[str, Any]:
    """Return one line; the answer's id is a function of model and question, so that a file can be made again."""
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{question.question_id}").hex[:22]
    return {
        "question_id": question.question_id,
        "answer_id": identity,
        "model_id": name,
        "choices": [{"index": 0, "turns": list(answers)}],
        "tstamp": now,
    }


def _rows(path: Path, key: str) -> list[dict[str, Any]]:
    rows = list(json_rows(path))
    if not all(key in row for row in rows):
        raise DataError(f"{path}: expected rows with {key!r}")
    return rows
