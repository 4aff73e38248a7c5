"""Regression on ratings: one output per attribute, labels where there are any."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from align.errors import ConfigError
from align.objectives.objective import Objective
from align.records import Labels, LabelScaling, Scale, StepTotals


@dataclass(frozen=True)
class Regression(Objective):
    """Reward regression on several attributes (DPA, Wang et al. 2024, arXiv:2402.18571), with a language loss.

    The paper rescales all ratings to 0-100 and does not say how; the released model's readme inverts HelpSteer's with
    (s - 10) / 20, the middle of each grade's bin, which is our default. The weights of the two losses are not given
    either; with `unit` 20 a HelpSteer grade has squared error 1, as in SteerLM's recipe (arXiv:2311.09528).
    Both normalisations are ours: over labels as NeMo-Aligner does, or over responses.
    """

    rescale: Literal["midpoint", "minmax"] = "midpoint"
    """Grades become the middles of equal bins of 0-100 (HelpSteer 10..90), or 0 and 100 for lowest and highest."""
    scales: Mapping[str, list[float]] | None = None
    """Lowest and highest value, by attribute, of labels without a scale of their own: they become 0 and 100."""
    unit: float = 20.0
    """Points that count as an error of 1."""
    per_example: bool = False
    """Average over the labels of each response first: then responses with few labels weigh more."""
    lm_weight: float = 1.0
    """Weight of the language model's loss per token, which keeps the backbone a language model; 0 leaves it out."""
    lm_on: Literal["all", "response"] = "all"
    """Tokens the language loss is taken on."""

    view = "regression"
    requires = frozenset()

    def __post_init__(self) -> None:
        if self.lm_on != "all" and not self.lm_weight:
            raise ConfigError(f"lm_on {self.lm_on} has no effect at lm_weight 0: leave it out")
        if not self.unit > 0 or self.lm_weight < 0:
            raise ConfigError(f"unit must be positive and lm_weight not negative, got {self.unit} and {self.lm_weight}")
        if bad := {name: s for name, s in (self.scales or {}).items() if len(s) != 2 or not s[0] < s[1]}:
            raise ConfigError(f"scales: expected [lowest, highest] of each attribute, got {bad}")

    def rescaling(self, labels: Labels) -> LabelScaling:
        """Return how the labels of the data become points. Raises ConfigError for labels that cannot be learnt from."""
        if not labels.attributes:
            raise ConfigError("the data has no labels: regression needs ratings such as HelpSteer's or UltraFeedback's")
        unlabelled = [name for name, mean in zip(labels.attributes, labels.means, strict=True) if math.isnan(mean)]
        if unlabelled:
            raise ConfigError(
                f"no label of {', '.join(unlabelled)} in the training split: name others as data.attributes"
            )
        lines = [self._line(name, scale) for name, scale in zip(labels.attributes, labels.scales, strict=True)]
        slopes, intercepts = zip(*lines, strict=True)
        offsets = tuple(s * mean + i for (s, i), mean in zip(lines, labels.means, strict=True))
        return LabelScaling(labels.attributes, slopes, intercepts, offsets, self.unit)

    def _line(self, name: str, scale: Scale | None) -> tuple[float, float]:
        """Return slope and intercept: 100 (q - low + step / 2) / (high - low + step), with step 0 for `minmax`."""
        if self.scales and name in self.scales:
            scale = Scale(self.scales[name][0], self.scales[name][1], step=0)
        if scale is None:
            raise ConfigError(f"{name} has no scale: give its lowest and highest label as objective.scales.{name}")
        step = scale.step if self.rescale == "midpoint" else 0.0
        slope = 100 / (scale.high - scale.low + step)
        return slope, slope * (step / 2 - scale.low)

    def __call__(
        self, points: Float[Tensor, "candidate attribute"], targets: Float[Tensor, "candidate attribute"]
    ) -> Float[Tensor, " candidate"]:
        """Return the squared errors of each response over `unit` squared, summed or averaged; 0 without a label.

        The difference, not its square, is set to 0 where a label is missing: otherwise NaN would reach the gradient.
        """
        known = ~targets.isnan()
        errors = (points - targets.nan_to_num()).where(known, 0) / self.unit
        total = errors.square().sum(1)
        return total / known.sum(1).clamp(min=1) if self.per_example else total

    def counts(self, targets: Float[Tensor, "candidate attribute"]) -> Int[Tensor, " candidate"]:
        """Return what each response adds to the denominator: its labels, or 1 where it has any."""
        known = (~targets.isnan()).sum(1)
        return known.clamp(max=1) if self.per_example else known

    def denominator(self, totals: StepTotals) -> float:
        """Return the denominator of a step, 1 where it has no label at all."""
        return (totals.labelled if self.per_example else totals.labels) or 1.0

    def language_tokens(self, totals: StepTotals) -> float:
        """Return the denominator of the language loss of a step."""
        return totals.response_tokens + (totals.prompt_tokens if self.lm_on == "all" else 0.0)
