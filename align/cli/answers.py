"""`align generate --answers`: the answer files of AlpacaEval and MT-bench."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from align.encoding.templates import TemplateName
from align.errors import ConfigError
from align.evaluation.answer_files import (
    alpaca_eval_answers,
    mt_bench_answers,
    read_alpaca_instructions,
    read_mt_bench_questions,
)
from align.evaluation.completions import Policy
from align.models.backbone import Backbone
from align.sampling.generation import Generation

AnswerFormat = Literal["alpaca_eval", "mt_bench"]


def write_answers(
    model: Backbone,
    answers: AnswerFormat,
    prompts: str | None,
    out: str | None,
    *,
    template: TemplateName,
    generation: Generation,
    name: str | None,
) -> None:
    """Write one answer file."""
    if prompts is None or out is None:
        raise ConfigError(f"answers {answers}: name the benchmark's file in --prompts and the file to write in --out")
    if generation.num_samples != 1:
        raise ConfigError(f"answers {answers}: one answer each is read, got num_samples {generation.num_samples}")
    called = name or Path(model.path).name
    if answers == "alpaca_eval":
        instructions = read_alpaca_instructions(Path(prompts))
        text = alpaca_eval_answers(Policy.load(model, template), instructions, called, generation)
    else:
        questions = read_mt_bench_questions(Path(prompts))
        text = mt_bench_answers(Policy.load(model, template), questions, called, generation, now=time.time())
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(text, encoding="utf-8")
    print(f"{out}: answers of {called}")
