"""Losses that hold each response of a pair against the reference on its own, not against the other response."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.objectives.pairwise import LogRatioObjective, log_ratios, logistic
from align.records import PairScores


@dataclass(frozen=True)
class NCAPair(LogRatioObjective):
    """Noise contrastive alignment on pairs (Chen et al. 2024, arXiv:2402.05369; TRL's `nca_pair`)."""

    beta: float = 0.01

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of telling the chosen response from noise, to which both responses belong by half."""
        chosen, rejected = self.rewards(policy, reference).unbind(-1)
        return logistic(chosen) + 0.5 * logistic(-chosen) + 0.5 * logistic(-rejected)


@dataclass(frozen=True)
class BCOPair(LogRatioObjective):
    """Binary classifier optimisation on pairs (Jung et al. 2024, arXiv:2404.04656; TRL's `bco_pair`).

    Without the reward shift of `align.objectives.pointwise.BCO`.
    """

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of classifying both responses by the sign of their rewards."""
        chosen, rejected = self.rewards(policy, reference).unbind(-1)
        return logistic(chosen) + logistic(-rejected)


@dataclass(frozen=True)
class SPPOHard(LogRatioObjective):
    """Self-play preference optimisation with win rates 1 and 0 (Wu et al. 2024, arXiv:2405.00675, Eq. 4.7).

    TRL's `sppo_hard`, which adds the two squares where the released code averages them. Graded win rates are
    `align.objectives.scored.SPPO`.
    """

    beta: float = 0.001
    """1 / eta of the paper: the log-ratios aim at -1 / (2 beta) and 1 / (2 beta)."""

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the squared distances of both log-ratios to their targets."""
        chosen, rejected = log_ratios(policy, reference)
        return (chosen - 0.5 / self.beta) ** 2 + (rejected + 0.5 / self.beta) ** 2


@dataclass(frozen=True)
class APOZero(LogRatioObjective):
    """Anchored preference optimisation, up and down (D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 7; `apo_zero`).

    For chosen responses that are better than what the policy writes.
    """

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return a loss in (0, 2) that raises the chosen response and lowers the rejected one."""
        chosen, rejected = self.rewards(policy, reference).unbind(-1)
        return (-chosen).sigmoid() + rejected.sigmoid()


@dataclass(frozen=True)
class APODown(LogRatioObjective):
    """Anchored preference optimisation, down (D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 8; `apo_down`).

    For chosen responses that are worse than what the policy writes.
    """

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return a loss in (0, 2) that lowers both responses, the rejected one more."""
        chosen, rejected = self.rewards(policy, reference).unbind(-1)
        return chosen.sigmoid() + F.sigmoid(rejected - chosen)
