"""The groups that a batch is made of, and what grows with their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from align.records import CandidateBatch, EncodedGroup

AROUND = 16384
"""Positions near which costs are found."""


@dataclass(frozen=True)
class TypicalGroup:
    """The groups that batches are made of."""

    prompt: int = 250
    response: int = 90
    candidates: int = 2

    @property
    def tokens(self) -> int:
        """Return the tokens of one, its prompt counted once."""
        return self.prompt + self.candidates * self.response

    @property
    def scored(self) -> float:
        """Return the share of tokens that are scored, each prompt counted once."""
        return self.candidates * self.response / self.tokens

    def batch(self, count: int) -> CandidateBatch:
        """Return a batch of so many."""
        responses = [[0] * self.response for _ in range(self.candidates)]
        marks = [False] * self.candidates
        one: Any = (responses, list(range(self.candidates)), [[]] * self.candidates, 1.0, marks)
        return CandidateBatch.of([EncodedGroup(f"{i}", [0] * self.prompt, *one) for i in range(count)])


class Growth(NamedTuple):
    """Bytes: so many, and so many for each position."""

    fixed: float
    each: float

    def at(self, positions: float) -> float:
        """Return the bytes of so many positions."""
        return self.fixed + self.each * positions

    @classmethod
    def through(cls, points: Sequence[tuple[int, float]]) -> Growth:
        """Return the line through two points."""
        (first, low), (second, high) = points
        each = (high - low) / (second - first)
        return cls(low - each * first, each)
