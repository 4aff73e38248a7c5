"""Selections make training records of scored samples; those that draw do so by run, round and prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from align.data.source import Report
from align.errors import ConfigError
from align.records import Example
from align.rounds.scored_samples import PromptSamples, best_of
from align.sampling.generation import Generation

if TYPE_CHECKING:
    from align.sampling.logit_mixture import LogitMixture


class Selection(ABC):
    """Makes training records of a round."""

    takes_any_text = False
    """Whether a sample without text, or with characters that no file holds, can be trained on, as its tokens can."""

    keeps_samples = False
    """Whether records hold samples as they were drawn, with `reward` and `finished`: what online methods train on."""

    least = 1
    """Of how many samples of a prompt it can make anything."""

    writes_conditions = False
    """Whether its records hold what their samples are asked for: goes with `conditions`, and they with nothing else."""

    takes_data = False
    """Whether it is for the data's own responses, which are in a first round alone, and not for samples."""

    def check(self, settings: Generation, mixture: LogitMixture | None) -> None:
        """Raise ConfigError for samples from which it makes nothing, or something else."""

    def compared(self, settings: Generation) -> int:
        """Return how many samples of a prompt are trained on together at most."""
        return settings.num_samples

    @abstractmethod
    def build(self, drawn: Sequence[PromptSamples], report: Report) -> list[Example]:
        """Return the records; prompts that give none are counted by reason."""


class PromptSelection(Selection):
    """A selection among the samples of one prompt at a time."""

    def build(self, drawn: Sequence[PromptSamples], report: Report) -> list[Example]:
        """Return the records of all prompts."""
        records: list[Example] = []
        for prompt in drawn:
            found = self.of_prompt(prompt)
            if isinstance(found, str):
                report.drop(found, prompt.example.id)
            else:
                records += found
        return records

    @abstractmethod
    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return the records of a prompt with at least one candidate, or why there is none."""


@dataclass(frozen=True)
class BestOfN(PromptSelection):
    """The sample of the highest reward: rejection sampling, as in best-of-n SFT and RAFT with local ranking."""

    def of_prompt(self, drawn: PromptSamples) -> list[Example] | str:
        """Return one record of one response."""
        return [drawn.record([best_of(drawn.candidates)], [0])]


@dataclass(frozen=True)
class TopFraction(Selection):
    """The best share of all samples of the round: RAFT with global ranking (Dong et al. 2023, arXiv:2304.06767)."""

    fraction: float = 0.125
    """Share that is kept, of all samples together."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"selection.fraction must lie in (0, 1], got {self.fraction}")

    def build(self, drawn: Sequence[PromptSamples], report: Report) -> list[Example]:
        """Return one record per kept sample, in the order of prompts and samples."""
        every = [(prompt, candidate) for prompt in drawn for candidate in prompt.distinct()]
        kept = max(round(self.fraction * len(every)), 1)
        ranked = sorted(range(len(every)), key=lambda i: (-every[i][1].reward, i))
        best = sorted(ranked[:kept])
        found = [every[i] for i in best]
        with_one = {prompt.example.id for prompt, _ in found}
        for prompt in drawn:
            if prompt.example.id not in with_one:
                report.drop("below the best fraction", prompt.example.id)
        return [prompt.record([c], [0], f"#{c.number}") for prompt, c in found]
