"""Losses of reward models that know how strongly one response is preferred.

The strength of a pair is the label of the better response less that of the worse one: an annotator's grade, or what
reward models say, several of them averaged (`RewardModel.attribute` names the labels).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.objectives.reward import RankedRewards, RewardObjective

Pairs = Float[Tensor, "group candidate candidate"]


class StrengthObjective(RewardObjective):
    """A loss of ordered pairs, averaged over those of each list."""

    @abstractmethod
    def pair_losses(self, differences: Pairs, strengths: Pairs) -> Pairs:
        """Return the loss of each pair from its difference in reward and its strength."""

    def __call__(self, batch: RankedRewards) -> Float[Tensor, " group"]:
        """Return the mean loss of each group's ordered pairs, in nats; 0 for a group without any.

        Raises ValueError when an ordered pair has no labels.
        """
        return batch.mean_over_pairs(self.pair_losses(batch.differences(), batch.strengths(type(self).__name__)))

    def check_labels(self, given: RankedRewards) -> None:
        """Raise DataError where an ordered pair has no labels."""
        given.strengths(type(self).__name__)


@dataclass(frozen=True)
class ScaledBradleyTerry(StrengthObjective):
    """-|s| log sigmoid(r_w - r_l): HelpSteer2-Preference (Wang et al. 2024, arXiv:2410.01257), used for HelpSteer3.

    A pair counts as often as annotators would have to repeat their choice to say how strong it is (1 to 3).
    """

    def pair_losses(self, differences: Pairs, strengths: Pairs) -> Pairs:
        """Return the Bradley-Terry loss times the strength."""
        return -strengths.abs() * F.logsigmoid(differences)


@dataclass(frozen=True)
class SoftLabel(StrengthObjective):
    """-p log sigmoid(r_w - r_l) - (1 - p) log sigmoid(r_l - r_w) with p = sigmoid(s / temperature).

    Secrets of RLHF II (Wang et al. 2024, arXiv:2401.06080), where s is the mean over several reward models. The
    temperature is ours; the paper has 1.
    """

    temperature: float = 1.0
    """Strength at which p is sigmoid(1) = 0.73."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")

    def pair_losses(self, differences: Pairs, strengths: Pairs) -> Pairs:
        """Return the cross-entropy against the probability the labels give the order."""
        preferred = torch.sigmoid(strengths / self.temperature)
        return -preferred * F.logsigmoid(differences) - (1 - preferred) * F.logsigmoid(-differences)


@dataclass(frozen=True)
class LabelFlip(StrengthObjective):
    """Bradley-Terry with the pairs turned round whose strength is negative.

    Secrets of RLHF II (Wang et al. 2024, arXiv:2401.06080): where several reward models agree against the annotator,
    the annotator is taken to be wrong.
    """

    threshold: float = 0.0
    """A pair is turned round below minus this strength."""

    def __post_init__(self) -> None:
        if self.threshold < 0:
            raise ConfigError(f"threshold must not be negative, got {self.threshold}")

    def pair_losses(self, differences: Pairs, strengths: Pairs) -> Pairs:
        """Return the Bradley-Terry loss in the direction of the labels."""
        return -F.logsigmoid(torch.where(strengths < -self.threshold, -differences, differences))
