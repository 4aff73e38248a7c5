"""What scorers, judges and responders share: they may ask others, some of which ask the model that is being trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.encoding.encoder import Encoder
from align.models.asked import ModelAsking
from align.models.backbone import Backbone
from align.records import Example

SCORED_TOGETHER = 256
"""Samples of a process whose rewards are committed at a time."""


@dataclass(frozen=True)
class PolicyNow:
    """The model being trained as it is at one moment, with what it takes to ask it."""

    model: Any
    tokenizer: Any
    encoder: Encoder
    asking: ModelAsking
    backbone: Backbone
    """What it began as; says how long a text it takes."""
    weights: str
    """Hash of its trained weights."""


@dataclass
class Training:
    """A training run, which says what its model is now; None before its first round."""

    now: PolicyNow | None = None


class Component:
    """Gives numbers, preferences or replies, by itself or by asking its parts."""

    @property
    def parts(self) -> Sequence[Component]:
        """Return what it asks."""
        return ()

    def ready(self) -> None:
        """Raise an error for what would stop it at the first question, before anything is sampled for it."""
        for part in self.parts:
            part.ready()

    def check_examples(self, examples: Sequence[Example]) -> None:
        """Raise an error for what these records lack, before anything is sampled for them."""
        for part in self.parts:
            part.check_examples(examples)

    def check_world(self, name: str, settings: Mapping[str, Any]) -> None:
        """Raise ConfigError where gold rewards are of another synthetic world than something named is."""
        for part in self.parts:
            part.check_world(name, settings)

    def refresh(self) -> None:
        """Read what may have been replaced since it was read; called before the samples of a round are scored."""
        for part in self.parts:
            part.refresh()

    @property
    def asks_trained(self) -> bool:
        """Return whether it asks the model that is being trained, so that what it says is of one round."""
        return any(part.asks_trained for part in self.parts)

    @property
    def live(self) -> Sequence[Any]:
        """Return the models being trained that it asks now; where they are sharded, all processes call them."""
        return [model for part in self.parts for model in part.live]

    @property
    def together(self) -> int:
        """Return how many samples of a round are scored in a call, after which their scores are kept."""
        return max([SCORED_TOGETHER, *(part.together for part in self.parts)])

    def follow(self, training: Training) -> None:
        """Take the run whose model is asked, where the model being trained is."""
        for part in self.parts:
            part.follow(training)
