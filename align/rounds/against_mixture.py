"""The policy's sample and the chance that it beats the mixture's: what Nash-MD trains on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from align.errors import ConfigError
from align.records import Example
from align.rounds.every_sample import record_of_samples
from align.rounds.scored_samples import PromptSamples, sigmoid
from align.rounds.selections import PromptSelection
from align.sampling.generation import Generation
from align.sampling.logit_mixture import LogitMixture

WIN_RATE = ("win_rate",)
"""Attributes of the scorer WinRates."""


@dataclass(frozen=True)
class AgainstMixture(PromptSelection):
    """The policy's sample, as it was drawn, with the reward P(it beats the mixture's) - 1/2.

    Nash-MD (Munos et al. 2024, arXiv:2312.00886, section 7). The first sample of a prompt is the policy's, the second
    that of the mixture (`mixture.shares` [0, share], Eq. 5), which is compared with and not trained on. P is that of
    Bradley and Terry for the difference of rewards, as in TRL's former NashMDTrainer, or the judge's where the scorer
    is WinRates.
    """

    temperature: float = 1.0
    """Of Bradley and Terry's model, in units of reward; of no effect on a judge's chances."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"selection.temperature must be positive and finite, got {self.temperature}")

    keeps_samples = True
    takes_any_text = True

    def compared(self, settings: Generation) -> int:
        """Return 1: the policy's own sample."""
        return 1

    def check(self, settings: Generation, mixture: LogitMixture | None) -> None:
        """Raise ConfigError for samples of others than the two, or not of the policy's own probabilities."""
        shares = None if mixture is None or mixture.plain else list(mixture.shares)
        if shares is None or len(shares) != 2 or shares[0] != 0 or not 0 < shares[1] <= 1 or settings.num_samples != 2:
            raise ConfigError(
                "selection AgainstMixture takes a sample of the policy and one of the mixture: set "
                "generation.num_samples to 2, mixture.shares to [0, SHARE] with SHARE in (0, 1], and mixture.plain to 0"
            )
        if settings.temperature != 1 or settings.top_p != 1:
            raise ConfigError(
                "selection AgainstMixture is for a policy gradient, of samples at the policy's own probabilities: set "
                f"generation.temperature and top_p to 1, got {settings.temperature:g} and {settings.top_p:g}"
            )

    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return the policy's sample with its reward."""
        if len(drawn.candidates) != 2:
            return "one of two samples left out"
        own, other = sorted(drawn.candidates, key=lambda c: c.number)
        if drawn.attributes == WIN_RATE:
            chance = 2 * own.reward - 0.5  # a win rate is the mean with the half against itself
        else:
            chance = sigmoid((own.reward - other.reward) / self.temperature)
        return [record_of_samples(drawn, [own._replace(reward=chance - 0.5)])]
