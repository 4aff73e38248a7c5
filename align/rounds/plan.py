"""What decides one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align.encoding.templates import Template
from align.records import Conditioning
from align.rewards.scorers import Direction
from align.rounds.round_prompts import RoundPrompt
from align.rounds.settings import RoundSettings
from align.sampling.generation import Sample


@dataclass(frozen=True)
class RoundPlan:
    """One round before it is made."""

    number: int
    settings: RoundSettings
    prompts: Sequence[RoundPrompt]
    """Once per condition they are sampled under."""
    policy: str
    """Hash of the weights that are sampled from."""
    conditioning: Conditioning | None = None
    """How conditions are written, in rounds that have some."""
    reference: str = ""
    """Of a mixture: hash of what its reference is; empty where the policy draws alone."""
    taken: int = 0
    """Prompts taken from the order of the data, those that leave no room for a response counted."""
    ahead: bool = False
    """Whether its weights are those that the round before began with, on which it is trained meanwhile."""
    template: Template | None = None
    """Says what a sample says, where special tokens tell its thought and its answer apart."""

    @property
    def fingerprint(self) -> str:
        """Return a hash of all that decides samples and records, beside the weights."""
        mixed = [self.reference] if self.reference else []
        mixed += ["ahead"] if self.ahead else []
        return self.settings.fingerprint(self.conditioning, [(p.request.id, p.hash) for p in self.prompts], *mixed)

    def said(self, found: Sample) -> str:
        """Return the text of a sample."""
        return self.template.said(found.ids, found.text) if self.template else found.text

    @property
    def direction(self) -> Direction:
        """Return which reward the scores make; under conditions one that needs all they name."""
        if self.conditioning is None:
            return self.settings.direction
        middle = self.conditioning.region.middle_weights
        return Direction(dict(zip(self.conditioning.attributes, middle, strict=True)))
