"""`align generate --answers`: the answer files of AlpacaEval and MT-bench."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from align.errors import ConfigError
from align.evaluation.answer_files import (
    Answer,
    alpaca_eval_answers,
    mt_bench_answers,
    read_alpaca_instructions,
    read_mt_bench_questions,
)
from align.sampling.generation import Generation

AnswerFormat = Literal["alpaca_eval", "mt_bench"]


class AnswerFile(NamedTuple):
    """A benchmark's questions, read, and the file their answers go to."""

    text: Callable[[Answer], str]
    """Has the questions answered and returns the file's content."""
    out: Path
    name: str

    def write(self, answer: Answer) -> None:
        """Have the questions answered and write the file."""
        text = self.text(answer)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(text, encoding="utf-8")
        print(f"{self.out}: answers of {self.name}")


def answer_file(
    answers: AnswerFormat, prompts: str | None, out: str | None, name: str, generation: Generation
) -> AnswerFile:
    """Read a benchmark's questions.

    Raises ConfigError where a file is not named or several answers are asked for, DataError for a damaged file.
    """
    if prompts is None or out is None:
        raise ConfigError(f"answers {answers}: name the benchmark's file in --prompts and the file to write in --out")
    if generation.num_samples != 1:
        raise ConfigError(f"answers {answers}: one answer each is read, got num_samples {generation.num_samples}")
    if answers == "alpaca_eval":
        instructions = read_alpaca_instructions(Path(prompts))
        return AnswerFile(lambda ask: alpaca_eval_answers(ask, instructions, name, generation), Path(out), name)
    questions = read_mt_bench_questions(Path(prompts))
    return AnswerFile(lambda ask: mt_bench_answers(ask, questions, name, generation, now=time.time()), Path(out), name)
