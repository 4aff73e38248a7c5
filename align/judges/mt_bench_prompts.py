"""MT-bench's prompts for the rating of one answer: each turn by itself, with a reference where a question has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from align.errors import DataError
from align.judges.judge_prompts import JudgeRequest, ask

REFERENCE_CATEGORIES = ("math", "reasoning", "coding")
"""Categories FastChat's judge sees a reference answer of."""


class Prompted(NamedTuple):
    """A question to the judge, under FastChat's name of its prompt."""

    name: str
    question: JudgeRequest


def rating_prompt(
    turns: Sequence[str],
    answers: Sequence[str],
    references: Sequence[str],
    *,
    settings: str,
    fences: bool,
) -> Prompted:
    """Return how to ask for a rating of the last answer (Zheng et al. 2023, arXiv:2306.05685, figures 6, 8 and 10).

    Args:
        turns: What the user asked, up to the turn to rate: one or two texts.
        answers: The answers to them.
        references: Reference answers to them; empty asks without.
        settings: What else decides the reply.
        fences: See `JudgePrompt`.
    """
    if len(turns) not in (1, 2) or len(answers) != len(turns) or len(references) not in (0, len(turns)):
        counts = f"{len(turns)} turns, {len(answers)} answers and {len(references)} references"
        raise DataError(f"MT-bench rates dialogues of one or two turns with an answer to each, got {counts}")
    name = f"single{'-math' if references else ''}-v1{'-multi-turn' if len(turns) == 2 else ''}"
    template = f"mt_bench_single{'_math' if references else ''}{'_turns' if len(turns) == 2 else ''}"
    if template == "mt_bench_single":
        texts = {"query": turns[0], "response_a": answers[0], "response_b": ""}
    else:
        parts = {"question": turns, "answer": answers, "reference": references}
        texts = {f"{key}_{n}": text for key, values in parts.items() for n, text in enumerate(values, 1)}
    return Prompted(name, ask(template, texts, answers, [settings, "rating"], fences=fences))
