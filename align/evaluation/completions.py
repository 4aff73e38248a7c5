"""Completions to evaluate: sampled once per model and temperature, kept in a file, read back by the next run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from align.encoding.encoder import Encoder
from align.encoding.templates import RowRefused
from align.errors import DataError
from align.records import Example, Message


class EvaluationPrompt(NamedTuple):
    """A prompt to evaluate on."""

    messages: tuple[Message, ...]
    subset: str = ""
    """The part of the data it belongs to."""
    reference: str | None = None
    """The response it is compared with: the chosen one of the data, where it has one."""
    tools: str = ""
    """Functions that may be called, as a JSON list of schemas; with settings of the row, as `Beside` writes both."""
    kept_columns: str = ""
    """Columns of its row that reward functions read, as an Example has them."""

    @classmethod
    def of(cls, example: Example, subset: str) -> EvaluationPrompt:
        """Return the prompt of an example; its reference is the best response, or the only one."""
        best = example.ranking[0][0] if example.ranking else 0
        reference = example.responses[best] if example.responses else None
        return cls(example.messages, subset, reference, example.tools, example.kept_columns)


def examples_of(prompts: Sequence[EvaluationPrompt]) -> list[Example]:
    """Return prompts as records, for scorers that read their columns."""
    return [
        Example(f"prompt {number}", p.messages, tools=p.tools, source=p.subset, kept_columns=p.kept_columns)
        for number, p in enumerate(prompts, 1)
    ]


def encoded(encoder: Encoder, prompts: Sequence[EvaluationPrompt]) -> list[list[int]]:
    """Return the tokens of prompts. Raises DataError naming one that the template cannot write."""
    found = []
    for number, prompt in enumerate(prompts, 1):
        try:
            found.append(encoder.prompt_ids(prompt.messages, prompt.tools))
        except RowRefused as refusal:
            raise DataError(
                f"prompt {number} of {len(prompts)}: {refusal}: leave it out, or name a template that fits"
            ) from refusal
    return found


def fingerprint(prompts: Sequence[EvaluationPrompt]) -> str:
    """Return a hash of prompts, their order and their references: results of the same can be compared in pairs.

    What only a reward function reads changes no response.
    """
    return hashlib.sha256(json.dumps([prompt[:-1] for prompt in prompts]).encode()).hexdigest()[:16]


class EvaluatedCompletion(NamedTuple):
    """One response of a model."""

    prompt: int
    """Index of its prompt."""
    text: str
    ids: list[int]
    """Its tokens, the one that ended it included."""
    finished: bool
    """Whether it ended by itself."""
    cut: bool = False
    """Whether the start of its prompt was cut off to fit the context."""
