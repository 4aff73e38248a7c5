"""Builders of preference pairs from samples of one prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from align.errors import ConfigError
from align.records import FROM_REFERENCE, Example
from align.rounds.scored_samples import PromptSamples, ScoredSample, best_of, sigmoid, worst_of
from align.rounds.selections import PromptSelection
from align.sampling.generation import Generation

if TYPE_CHECKING:
    from align.sampling.logit_mixture import LogitMixture


@dataclass(frozen=True)
class BestWorst(PromptSelection):
    """The best sample against the worst: on-policy DPO with a greedy labeller."""

    margin: float = 0.0
    """Pairs whose rewards differ by no more are dropped."""

    least = 2

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise ConfigError(f"selection.margin must not be negative or infinite, got {self.margin}")

    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return one pair."""
        best, worst = best_of(drawn.candidates), worst_of(drawn.candidates)
        if best.reward - worst.reward <= self.margin:
            return "rewards too close"
        if best.text == worst.text:
            return "identical samples"
        return [self.record(drawn, best, worst)]

    def record(self, drawn: PromptSamples, best: ScoredSample, worst: ScoredSample) -> Example:
        """Return the pair as texts, ended like those of any other data; in tokens where one was cut off."""
        return drawn.record([best, worst], [0, 1])


@dataclass(frozen=True)
class DrawnPair(BestWorst):
    """The best sample against the worst in the tokens that were drawn: online DPO and IPO.

    Guo et al. 2024, arXiv:2402.04792, Algorithm 1; Calandriello et al. 2024, arXiv:2403.08635. Nothing is tokenised
    again, also where both samples ended by themselves. As in BestWorst samples of equal rewards make no pair, where
    TRL's OnlineDPOTrainer takes the first of them as chosen.
    """

    def record(self, drawn: PromptSamples, best: ScoredSample, worst: ScoredSample) -> Example:
        """Return the pair with its tokens."""
        return replace(super().record(drawn, best, worst), response_ids=(best.ids, worst.ids))


@dataclass(frozen=True)
class ReferencePair(DrawnPair):
    """The policy's sample and the reference's, and which of the two that is: XPO (Xie et al. 2024, arXiv:2405.21046).

    It goes with two samples of a prompt and `mixture.shares` [0, 1], so that the second is the reference's. Equal
    rewards make no pair, where TRL's former XPOTrainer took the policy's sample as chosen.
    """

    def check(self, settings: Generation, mixture: LogitMixture | None) -> None:
        """Raise ConfigError for samples of others than the two."""
        shares = None if mixture is None or mixture.plain else list(mixture.shares)
        if shares != [0, 1] or settings.num_samples != 2:
            raise ConfigError(
                "selection ReferencePair takes one sample of the policy and one of the reference: set "
                "generation.num_samples to 2, mixture.shares to [0, 1] and mixture.plain to 0"
            )

    def record(self, drawn: PromptSamples, best: ScoredSample, worst: ScoredSample) -> Example:
        """Return the pair with its tokens and, as a second label of each, whether the reference drew it."""
        scores = tuple((sample.reward, float(sample.number % 2)) for sample in (best, worst))
        return replace(super().record(drawn, best, worst), attributes=("reward", FROM_REFERENCE), scores=scores)


@dataclass(frozen=True)
class BernoulliPair(PromptSelection):
    """The first two samples, the winner drawn with probability sigmoid((r_1 - r_2) / temperature) (Bradley-Terry)."""

    temperature: float = 1.0
    """In units of reward."""

    least = 2

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"selection.temperature must be positive and finite, got {self.temperature}")

    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return one pair."""
        two = drawn.distinct()[:2]
        if len(two) < 2:
            return "identical samples"
        wins = drawn.stream("label").random() < sigmoid((two[0].reward - two[1].reward) / self.temperature)
        return [drawn.record(two if wins else two[::-1], [0, 1])]


@dataclass(frozen=True)
class ThresholdPairs(PromptSelection):
    """All pairs with sigmoid((r_i - r_j) / temperature) > threshold: RS-DPO (Khaki et al. 2024, arXiv:2402.10038)."""

    temperature: float = 1.0
    """In units of reward."""
    threshold: float = 0.85
    """At least 0.5, so that no pair is taken in both orders."""

    least = 2

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf or not 0.5 <= self.threshold < 1:
            raise ConfigError(
                f"selection: temperature must be positive and threshold lie in [0.5, 1), got {self.temperature}, "
                f"{self.threshold}"
            )

    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return the pairs."""
        found = drawn.distinct()
        pairs = [(a, b) for a in found for b in found if self._far(a, b)]
        named = [drawn.record(pair, [0, 1], f"#{pair[0].number}>{pair[1].number}") for pair in pairs]
        return named or "rewards too close"

    def _far(self, better: ScoredSample, worse: ScoredSample) -> bool:
        return sigmoid((better.reward - worse.reward) / self.temperature) > self.threshold


@dataclass(frozen=True)
class RejectionSampledPairs(PromptSelection):
    """Statistical rejection sampling: RSO (Liu et al. 2023, arXiv:2309.06657, Algorithm 1).

    A candidate is accepted with probability exp((r - r_max) / beta), r_max the highest reward that is left; accepted
    ones leave the pool, until `accepted` are found. They are paired in the order of acceptance (first-round ranking),
    the better one chosen.
    """

    beta: float = 0.5
    """Of the KL-regularised optimum the accepted samples follow, in units of reward."""
    accepted: int = 8
    """How many to accept, an even number."""

    least = 2

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf or self.accepted < 2 or self.accepted % 2:
            raise ConfigError(f"selection: beta must be positive, accepted even, got {self.beta}, {self.accepted}")

    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return the pairs whose rewards differ."""
        found = self._accept(drawn)
        pairs = [sorted(pair, key=lambda c: -c.reward) for pair in zip(found[::2], found[1::2], strict=False)]
        differing = [pair for pair in pairs if pair[0].reward > pair[1].reward]
        named = [drawn.record(pair, [0, 1], f"#{pair[0].number}>{pair[1].number}") for pair in differing]
        return named or "rewards too close"

    def _accept(self, drawn: PromptSamples) -> list[ScoredSample]:
        """Draw from the pool until enough are accepted or it is empty; every pass accepts the best that is left."""
        draw, left, found = drawn.stream("accept"), drawn.distinct(), list[ScoredSample]()
        while left and len(found) < self.accepted:
            highest = max(c.reward for c in left)
            taken = [c for c in left if draw.random() < math.exp((c.reward - highest) / self.beta)]
            found += taken[: self.accepted - len(found)]
            left = [c for c in left if c not in taken]
        return found
