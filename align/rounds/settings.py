"""The settings of a run's rounds, and what decides them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from align.errors import ConfigError
from align.oracles.scorers import Direction, Scorer
from align.records import Example
from align.rounds.builders import Builder
from align.rounds.mixing import Replay
from align.sampling.generation import Generation


@dataclass(frozen=True)
class RoundSettings:
    """How a round is made."""

    scorer: Scorer
    builder: Builder
    generation: Generation
    direction: Direction
    prompts: int | None = None
    """Prompts of a round; each round takes the next ones of a shuffled order. Null takes all in every round."""
    replay: Replay | None = None
    missing_eos_penalty: float | None = None
    """Subtracted from the reward of a sample that was cut off at its limit; null leaves such samples out."""

    def __post_init__(self) -> None:
        if self.prompts is not None and self.prompts < 1:
            raise ConfigError(f"prompts must be at least 1, got {self.prompts}")

    def choose(self, pool: list[Example], round_number: int) -> list[Example]:
        """Return the prompts of a round, in the pool's order of hashes."""
        order = sorted(pool, key=lambda e: hashlib.sha256(repr((self.generation.seed, e.id)).encode()).digest())
        count = min(self.prompts or len(order), len(order))
        first = round_number * count
        return [order[(first + i) % len(order)] for i in range(count)]

    def fingerprint(self, *more: object) -> str:
        """Return a hash of all that decides a round's samples and records, beside its weights."""
        scorer = (type(self.scorer).__name__, self.scorer.identity)
        parts = (self.generation, scorer, self.builder, self.direction, self.prompts, self.replay)
        text = repr((*parts, self.missing_eos_penalty, *more))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
