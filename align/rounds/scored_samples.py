"""What a selection is given: a prompt, the samples that can be used, and what each is worth."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from align.records import Conditioning, Example
from align.records.reward_directions import Way
from align.sampling.generation import Finish


class ScoredSample(NamedTuple):
    """One scored sample."""

    number: int
    text: str
    finish: Finish
    scores: tuple[float, ...]
    reward: float
    """What selections select by: the scores weighed by the run's direction."""
    group: int = 0
    """Which of the prompt's conditions it was drawn under."""
    ids: tuple[int, ...] = ()
    """Its tokens as they were drawn."""
    logprobs: tuple[float, ...] = ()
    """Of its tokens, as the engine told them; none where it told none."""


@dataclass(frozen=True)
class PromptSamples:
    """A prompt of a round with its candidates, in the order of their numbers."""

    example: Example
    """The record the prompt comes from; its own responses may be used too."""
    candidates: tuple[ScoredSample, ...]
    attributes: tuple[str, ...]
    """Names of the candidates' scores."""
    round_number: int = 0
    seed: int = 0
    conditioning: Conditioning | None = None
    """How conditions are written, in rounds that have some."""
    angles: tuple[Way | None, ...] = ()
    """Directions of the conditions, None for one that asks for ratings."""

    def stream(self, purpose: str) -> random.Random:
        """Return a random stream that depends on run, round, prompt and purpose alone."""
        return stream_of(self.seed, self.round_number, self.example.id, purpose)

    def distinct(self) -> list[ScoredSample]:
        """Return the candidates with each text once, the first of its kind, in the order of their numbers."""
        seen: dict[str, ScoredSample] = {}
        for candidate in self.candidates:
            seen.setdefault(candidate.text, candidate)
        return list(seen.values())

    def record(self, chosen: Sequence[ScoredSample], ranks: Sequence[int], suffix: str = "") -> Example:
        """Return a training record of these candidates, with rank 0 the best.

        A text is ended when it is tokenised, which would teach a sample that was cut off at its limit to end there: a
        record of one keeps the tokens of all its candidates as they were drawn.
        """
        levels = sorted(set(ranks))
        cut = any(c.finish == "length" for c in chosen)
        return replace(
            self.example,
            id=f"{self.example.id}@{self.round_number}{suffix}",
            responses=tuple(c.text for c in chosen),
            attributes=("reward",),
            scores=tuple((c.reward,) for c in chosen),
            ranking=tuple(tuple(i for i, r in enumerate(ranks) if r == level) for level in levels),
            origins=tuple(f"policy@{self.round_number}" for _ in chosen),
            response_ids=tuple(c.ids for c in chosen) if cut else (),
            answers=(),
            contexts=(),
        )


def stream_of(seed: int, round_number: int, example: str, purpose: str) -> random.Random:
    """Return a random stream that depends on run, round, prompt and purpose alone."""
    return random.Random(hashlib.sha256(repr((seed, round_number, example, purpose)).encode()).digest())


def best_of(candidates: Sequence[ScoredSample]) -> ScoredSample:
    """Return the candidate of the highest reward, the first of equal ones."""
    return max(candidates, key=lambda c: (c.reward, -c.number))


def worst_of(candidates: Sequence[ScoredSample]) -> ScoredSample:
    """Return the candidate of the lowest reward, the first of equal ones."""
    return min(candidates, key=lambda c: (c.reward, c.number))


def sigmoid(x: float) -> float:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + math.tanh(x / 2))
