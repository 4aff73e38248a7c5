"""Reward models beside the gold reward: what they say of the same samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from align.errors import ConfigError
from align.evaluation.gold_evaluation import GoldReport
from align.evaluation.statistics import prompt_means
from align.rewards.reward_model_scorer import RewardModelScorer

GOLD = "gold"
"""What the gold reward is called beside them."""
Scores = Mapping[str, Sequence[float]]
"""What reward models say of every sample, by name."""


@dataclass(frozen=True)
class WorldRewards:
    """Reward models of one output, by name."""

    models: Mapping[str, RewardModelScorer] = field(default_factory=dict)
    """None is called gold, and each has one output."""

    def __post_init__(self) -> None:
        if GOLD in self.models:
            raise ConfigError(f"rewards.{GOLD}: the gold reward is called so: give the folder another name")
        for name, model in self.models.items():
            if len(model.attributes) > 1:
                raise ConfigError(
                    f"rewards.{name}: expected a reward model of one output, got {', '.join(model.attributes)}"
                )

    def scores(self, report: GoldReport) -> Scores:
        """Return what each says of every sample. Raises ConfigError where one cannot read a sample whole."""
        return {name: self._of(name, report) for name in self.models}

    def _of(self, name: str, report: GoldReport) -> list[float]:
        prompts, texts = [answer.prompt for answer in report.answers], [answer.text for answer in report.answers]
        found: list[float] = self.models[name].score(prompts, texts)[:, 0].tolist()
        if missing := sum(map(math.isnan, found)):
            raise ConfigError(
                f"rewards.{name}: {missing} of {len(found)} dialogues have no reward: they may be too long for it"
            )
        return found

    def told(self, report: GoldReport) -> dict[str, Any]:
        """Return what they say on average and by prompt, under the name it has in a file; nothing without models."""
        owners = [sample.prompt for sample in report.drawn.samples]
        found = {name: prompt_means(values, owners) for name, values in self.scores(report).items()}
        return {"reward_models": means(found)} if found else {}


def means(values: Mapping[str, Float[np.ndarray, " prompt"]]) -> dict[str, Any]:
    """Return the mean of what each reward model says, and in `by_prompt` what it says on every prompt."""
    found = {name: float(own.mean()) for name, own in values.items()}
    return {**found, "by_prompt": {name: own.tolist() for name, own in values.items()}}
