"""Settings of a reward model that mean nothing beside others."""

from __future__ import annotations

from collections.abc import Iterator

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.objectives.regression import Regression
from align.objectives.reward import RewardObjective


def refuse_unused(
    backbone: Backbone, objective: RewardObjective | Regression, attribute: str | list[str] | None, *, clamp: bool
) -> None:
    """Raise ConfigError for the first setting that nothing would read."""
    for unused, why in _unused(backbone, objective, attribute, clamp=clamp):
        raise ConfigError(f"{unused} has no effect on a reward model {why}: leave it out")


def _unused(
    backbone: Backbone, objective: RewardObjective | Regression, attribute: str | list[str] | None, *, clamp: bool
) -> Iterator[tuple[str, str]]:
    """Yield settings that nothing would read, and why."""
    if attribute is not None and isinstance(objective, Regression):
        yield "attribute", f"whose loss ({type(objective).__name__}) reads all labels"
    if attribute is not None and not isinstance(objective, Regression) and not objective.reads_labels:
        yield "attribute", f"whose loss ({type(objective).__name__}) reads none"
    if clamp and not isinstance(objective, Regression):
        yield "clamp", "of rankings, whose rewards are no points"
    if not objective.lm_weight and backbone.logit_bytes != Backbone.logit_bytes:
        yield "backbone.logit_bytes", "without objective.lm_weight, which has no logits"
