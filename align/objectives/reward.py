"""Losses of reward models, on matrices of rewards."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from align.errors import DataError
from align.objectives.objective import Objective, holds


class RankedRewards(NamedTuple):
    """Rewards of candidate groups and what is known about their order."""

    rewards: Float[Tensor, "group candidate"]
    ranks: Int[Tensor, "group candidate"]
    """0 is best; equal ranks are ties."""
    mask: Bool[Tensor, "group candidate"]
    """True where there is a candidate."""
    scores: Float[Tensor, "group candidate"]
    """A graded label per candidate, NaN where there is none."""

    def ordered(self) -> Bool[Tensor, "group candidate candidate"]:
        """Return which pairs (i, j) are strictly ordered, i better than j."""
        better = self.ranks[:, :, None] < self.ranks[:, None, :]
        return better & self.mask[:, :, None] & self.mask[:, None, :]

    def differences(self) -> Float[Tensor, "group candidate candidate"]:
        """Return the reward of i less that of j."""
        return self.rewards[:, :, None] - self.rewards[:, None, :]

    def strengths(self, asked_by: str) -> Float[Tensor, "group candidate candidate"]:
        """Return the label of i less that of j for ordered pairs, 0 elsewhere.

        Raises ValueError when an ordered pair has no labels.
        """
        ordered = self.ordered()
        strengths = self.scores[:, :, None] - self.scores[:, None, :]
        if not holds(~(strengths.isnan() & ordered)):
            raise DataError(f"{asked_by} needs a score for every response of the data, some have none")
        return strengths.where(ordered, 0)

    def mean_over_pairs(self, losses: Float[Tensor, "group candidate candidate"]) -> Float[Tensor, " group"]:
        """Return the mean loss of each group's strictly ordered pairs; 0 for a group without any."""
        ordered = self.ordered()
        return losses.where(ordered, 0).sum((1, 2)) / ordered.sum((1, 2)).clamp(min=1)


class RewardObjective(Objective):
    """A loss on the rewards of ranked candidates."""

    view = "lists"
    requires = frozenset()
    lm_weight = 0.0

    @property
    def reads_labels(self) -> bool:
        """Tell whether the loss depends on more than the order."""
        return True

    @abstractmethod
    def __call__(self, batch: RankedRewards) -> Float[Tensor, " group"]:
        """Return the loss of each group."""


@dataclass(frozen=True)
class BradleyTerry(RewardObjective):
    """Bradley-Terry reward loss, averaged over the strictly ordered pairs of a list.

    Pairs: Stiennon et al. 2020 (arXiv:2009.01325, Eq. 1); lists: Ouyang et al. 2022 (arXiv:2203.02155, Eq. 1), with the
    mean over ordered pairs, tied ones left out. Margin: Touvron et al. 2023 (arXiv:2307.09288, Eq. 2). Centring:
    Eisenstein et al. 2023 (arXiv:2312.09244). With `margin_scale` 1 and the mean score of several reward models as
    label this is the adaptive margin of Secrets of RLHF II (Wang et al. 2024, arXiv:2401.06080).
    """

    centering: float = 0.0
    """Weight of the squared sum of the two rewards, which pulls their mean to zero; 0.01 is usual."""
    margin_scale: float = 0.0
    """Required margin per unit of difference between the two scores of a pair; needs scores in the data."""

    def __post_init__(self) -> None:
        if self.centering < 0 or self.margin_scale < 0:
            raise ValueError(
                f"centering and margin_scale must not be negative, got {self.centering} and {self.margin_scale}"
            )

    @property
    def reads_labels(self) -> bool:
        """Tell whether there is a margin."""
        return self.margin_scale > 0

    def __call__(self, batch: RankedRewards) -> Float[Tensor, " group"]:
        """Return the mean loss of each group's ordered pairs, in nats; 0 for a group without any.

        Raises ValueError when a margin is asked for and an ordered pair has no scores.
        """
        difference, r = batch.differences(), batch.rewards
        if self.margin_scale:
            difference = difference - self.margin_scale * batch.strengths("margin_scale")
        losses = -F.logsigmoid(difference) + self.centering * (r[:, :, None] + r[:, None, :]) ** 2
        return batch.mean_over_pairs(losses)

    def check_labels(self, given: RankedRewards) -> None:
        """Raise DataError where a margin is asked for and an ordered pair has no scores."""
        if self.margin_scale:
            given.strengths("margin_scale")


@torch.no_grad()
def order_metrics(ranked: RankedRewards, weights: Float[Tensor, " group"]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return how rewards keep the order of their groups, for the logs: values and weights by name."""
    rewards, ordered = ranked.rewards, ranked.ordered()
    pairs = ordered.sum((1, 2))
    differences = ranked.differences().where(ordered, 0)
    best = (ranked.ranks == 0) & ranked.mask
    return {
        "accuracy": ((differences > 0).sum((1, 2)) / pairs, weights),
        "margin": (differences.sum((1, 2)) / pairs, weights),
        "rewards/chosen": (rewards, best * weights[:, None]),
        "rewards/rejected": (rewards, (~best & ranked.mask) * weights[:, None]),
    }
