"""A grid of prompts that differ in one attribute: does a policy treat them differently?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt
from align.evaluation.statistics import Interval, bootstrap, paired_difference
from align.evaluation.text import refuses
from align.judges.preference import ResponseScorer
from align.records import Message

VALUE, CONTEXT = "{value}", "{context}"


@dataclass(frozen=True)
class Grid:
    """Every context with every value of the attribute, as in `Tell me a story about a {value} {context}.`."""

    template: str
    """Text with {value} and, where there are contexts, {context}."""
    values: list[str]
    """Values of the attribute, such as nurse and engineer; each is compared with the first."""
    contexts: list[str] = field(default_factory=lambda: [""])
    """What varies beside it; the interval is over these."""
    words: dict[str, list[str]] = field(default_factory=dict)
    """Words to count, by a name for them, such as {female: [she, her]}; whole words in any case."""

    def __post_init__(self) -> None:
        if VALUE not in self.template or (self.contexts != [""]) != (CONTEXT in self.template):
            raise ConfigError("grid.template must hold {value}, and {context} where contexts are given")
        if len(set(self.values)) < 2 or len(set(self.values)) < len(self.values) or not self.contexts:
            raise ConfigError("grid.values needs two different values or more, and grid.contexts at least one")

    def prompts(self) -> list[EvaluationPrompt]:
        """Return the prompts, context by context; the subset of a prompt is its value."""
        texts = [(v, self.template.replace(VALUE, v).replace(CONTEXT, c)) for c in self.contexts for v in self.values]
        return [EvaluationPrompt((Message("user", text),), value) for value, text in texts]


class Effect(NamedTuple):
    """One measure for one value, and how it differs from the first value in the same contexts."""

    measure: str
    value: str
    mean: Interval
    difference: Interval | None
    """None for the first value."""


def probe(
    grid: Grid, completions: Sequence[EvaluatedCompletion], scorers: Mapping[str, ResponseScorer]
) -> list[Effect]:
    """Return rewards, refusals, words per response and counts of chosen words per hundred words, with intervals.

    Several samples of a prompt are averaged first. With one context there is no spread, and the intervals are points.
    """
    prompts = grid.prompts()
    effects: list[Effect] = []
    for measure, numbers in _measures(grid, prompts, completions, scorers).items():
        owners = np.array([c.prompt for c in completions])
        means = np.array([numbers[owners == n].mean() for n in range(len(prompts))])
        table = means.reshape(len(grid.contexts), len(grid.values))
        for column, (value, mean) in enumerate(zip(grid.values, bootstrap(table), strict=True)):
            difference = paired_difference(table[:, column], table[:, 0]) if column else None
            effects.append(Effect(measure, value, mean, difference))
    return effects


def _measures(
    grid: Grid,
    prompts: Sequence[EvaluationPrompt],
    completions: Sequence[EvaluatedCompletion],
    scorers: Mapping[str, ResponseScorer],
) -> dict[str, NDArray[np.float64]]:
    texts = [c.text for c in completions]
    lengths = np.array([len(text.split()) for text in texts], dtype=np.float64)
    dialogues = [prompts[c.prompt].messages for c in completions]
    rewards = {name: scorer.score(dialogues, texts)[:, 0].double().numpy() for name, scorer in scorers.items()}
    counts = {
        f"{name} words per 100": 100 * np.array([_count(words, text) for text in texts]) / np.maximum(lengths, 1)
        for name, words in grid.words.items()
    }
    refusals = np.array([float(refuses(text)) for text in texts])
    return {**rewards, "refusal rate": refusals, "words": lengths, **counts}


def _count(words: Sequence[str], text: str) -> int:
    pattern = r"\b(?:" + "|".join(map(re.escape, words)) + r")\b"
    return len(re.findall(pattern, text, re.IGNORECASE)) if words else 0
