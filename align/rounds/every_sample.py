"""Every sample of a prompt, as it was drawn: what online methods train on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from align.errors import ConfigError
from align.records import Example
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.rounds.selections import PromptSelection
from align.sampling.generation import Generation

if TYPE_CHECKING:
    from align.sampling.logit_mixture import LogitMixture

FINISHED = "finished"
"""Name of the label that is 1 for a sample that ended by itself, 0 for one cut off at its limit."""


@dataclass(frozen=True)
class SoftOverlong:
    """A penalty that grows with the length of a sample (DAPO, Yu et al. 2025, arXiv:2503.14476, Eq. 13)."""

    limit: int
    """Tokens at which the whole penalty is taken; the paper takes the longest sample."""
    buffer: int
    """Tokens before the limit over which it grows from 0."""
    penalty: float = 1.0
    """The whole penalty."""

    def __post_init__(self) -> None:
        if not 0 < self.buffer <= self.limit or not 0 <= self.penalty < math.inf:
            raise ConfigError(
                f"selection.overlong: buffer must lie in (0, limit] and penalty not be negative, got buffer "
                f"{self.buffer}, limit {self.limit}, penalty {self.penalty}"
            )

    def check(self, longest: int) -> None:
        """Raise ConfigError where samples of so many tokens at most are never penalised."""
        if longest <= self.limit - self.buffer:
            raise ConfigError(
                f"selection.overlong begins behind limit - buffer = {self.limit - self.buffer} tokens, samples have "
                f"{longest} at most (generation.max_new_tokens): set limit to that, or leave overlong out"
            )

    def of(self, length: int) -> float:
        """Return what is taken off the reward of a sample of so many tokens."""
        over = (length - (self.limit - self.buffer)) / self.buffer
        return self.penalty * min(max(over, 0.0), 1.0)


@dataclass(frozen=True)
class EverySample(PromptSelection):
    """All samples of every prompt as one group, with their tokens and rewards, in the order of their numbers."""

    skip_equal: bool = False
    """Leave out prompts whose samples all have one reward (DAPO's dynamic sampling): a round is shorter by them, unless
    its `refills` replace them."""
    overlong: SoftOverlong | None = None
    """What is taken off the rewards of long samples."""

    keeps_samples = True
    takes_any_text = True

    def check(self, settings: Generation, mixture: LogitMixture | None) -> None:
        """Raise ConfigError for a penalty on lengths that no sample has."""
        if self.overlong is not None:
            self.overlong.check(settings.max_new_tokens)

    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return one record."""
        found = [c if self.overlong is None else self._shaped(c, self.overlong) for c in drawn.candidates]
        if self.skip_equal and len({c.reward for c in found}) == 1:
            return "samples of one reward"
        return [record_of_samples(drawn, found)]

    def _shaped(self, sample: ScoredSample, overlong: SoftOverlong) -> ScoredSample:
        return sample._replace(reward=sample.reward - overlong.of(len(sample.ids)))


def record_of_samples(drawn: PromptSamples, samples: Sequence[ScoredSample]) -> Example:
    """Return the samples as a record whose labels are the reward, whether it finished, and the scores behind it."""
    names = [name for name in drawn.attributes if name not in ("reward", FINISHED)]
    places = [drawn.attributes.index(name) for name in names]
    labels = tuple((s.reward, float(s.finish != "length"), *(s.scores[p] for p in places)) for s in samples)
    made = drawn.record(samples, [0] * len(samples))
    told = any(s.logprobs for s in samples)
    return replace(
        made,
        attributes=("reward", FINISHED, *names),
        scores=labels,
        response_ids=tuple(s.ids for s in samples),
        engine_logprobs=tuple(s.logprobs or (math.nan,) * len(s.ids) for s in samples) if told else (),
    )
