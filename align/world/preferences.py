"""Preferences drawn from gold rewards, and ratings in the shapes of HelpSteer and UltraFeedback."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from align.errors import ConfigError
from align.world.gold_rewards import REWARDS, Gold, ParsedResponse, User

Ratings = Literal["gold", "helpsteer", "ultrafeedback"]
RATED: dict[Ratings, tuple[str, ...]] = {
    "gold": REWARDS,
    "helpsteer": ("helpfulness", "correctness", "coherence", "complexity", "verbosity"),
    "ultrafeedback": ("instruction_following", "honesty", "truthfulness", "helpfulness"),
}
"""Attributes of each shape."""
GRADES: dict[Ratings, tuple[int, int]] = {"helpsteer": (0, 4), "ultrafeedback": (1, 5)}
"""Lowest and highest grade; gold rewards are no grades."""


@dataclass(frozen=True)
class Preferences:
    """How responses are compared and rated."""

    size: int = 4000
    """Training examples."""
    held_out_size: int = 500
    """Examples of the validation split (prompts never trained on) and of the test split (entities never trained on)."""
    responses: int = 2
    """Responses per prompt: 2 for pairs, more for ranked lists."""
    temperature: float = 1.0
    """Of the Bradley-Terry and Plackett-Luce draws, in units of reward; small is almost the gold order."""
    label_noise: float = 0.0
    """Share of the pairs whose label is flipped; of lists, half the share that is put in random order."""
    users: dict[str, User] | None = None
    """Who compares, by name; each example falls to one of them by chance. Null is one `reader` with default weights."""
    flattery: float = 0.0
    """What annotators find every flattering sentence worth, in units of reward; world 2 has some. The gold rewards and
    all scores give it nothing, so that a reward model learns what a policy should not: a proxy of the gold reward."""
    ratings: Ratings = "gold"
    """Scores of each response: the gold rewards, or integers in the shape of HelpSteer or UltraFeedback."""
    missing: float = 0.0
    """Share of the examples that lack the first or the second half of the attributes."""
    seed: int = 0
    """Another seed draws other prompts, responses and labels."""

    def __post_init__(self) -> None:
        for name, low in {"size": 1, "held_out_size": 1, "responses": 1}.items():
            if getattr(self, name) < low:
                raise ConfigError(f"preferences.{name} must be at least {low}, got {getattr(self, name)}")
        if not self.temperature > 0 or math.isinf(self.temperature):
            raise ConfigError(f"preferences.temperature must be positive and finite, got {self.temperature}")
        if not 0 <= self.label_noise <= 0.5:
            raise ConfigError(f"preferences.label_noise must lie in 0..0.5, got {self.label_noise}")
        if not 0 <= self.missing <= 1:
            raise ConfigError(f"preferences.missing must lie in 0..1, got {self.missing}")
        if not math.isfinite(self.flattery):
            raise ConfigError(f"preferences.flattery must be finite, got {self.flattery}")
        if self.users is not None and not self.users:
            raise ConfigError("preferences.users is empty: name at least one")

    @property
    def annotators(self) -> dict[str, User]:
        """Return who compares, by name."""
        return self.users or {"reader": User()}

    def worth(self, user: str, scores: Gold, reading: ParsedResponse) -> float:
        """Return what a response is worth to an annotator, which the order of responses is drawn by."""
        return self.annotators[user].reward(scores) + self.flattery * reading.flattering

    def rank(self, rewards: Sequence[float], draw: random.Random) -> list[int]:
        """Draw an order of responses, best first, by Plackett-Luce; for two this is Bradley-Terry (Gumbel trick)."""
        if draw.random() < 2 * self.label_noise:
            return draw.sample(range(len(rewards)), len(rewards))
        keys = [r / self.temperature - math.log(-math.log(draw.random())) for r in rewards]
        return sorted(range(len(rewards)), key=lambda i: -keys[i])

    def probability(self, gap: float) -> float:
        """Return how probable it is that a response is preferred whose reward is higher by `gap`."""
        preferred = 0.5 * (1 + math.tanh(gap / self.temperature / 2))
        return (1 - 2 * self.label_noise) * preferred + self.label_noise

    def bayes_accuracy(self, gaps: Iterable[float]) -> float:
        """Return the share of labels that the annotators' own worths predict: no classifier expects more.

        Gaps are those of `worth`, which is the gold reward where nobody falls for flattery.
        """
        return fmean(max(p, 1 - p) for p in map(self.probability, gaps))


def rating(shape: Ratings, scores: Gold, reading: ParsedResponse) -> tuple[float, ...]:
    """Return the scores of a response, in the order of `RATED[shape]`."""
    if shape == "gold":
        return tuple(scores)
    quality = _between(0, 4, 2 + 0.5 * (scores.helpfulness + scores.harmlessness))
    stated = len(reading.right) + len(reading.wrong)
    true_share = 1.0 if not stated else len(reading.right) / stated
    manners = _between(0, 4, 4 - 2 * reading.rude)
    if shape == "helpsteer":
        facts = _between(0, 4, stated)
        return quality, _between(0, 4, 4 * true_share), manners, facts, _between(0, 4, reading.words / 10)
    truth = 1 + _between(0, 4, 4 * true_share)
    return 1 + quality, 1 + manners, truth, 1 + quality


def _between(low: int, high: int, value: float) -> float:
    return float(min(max(round(value), low), high))
