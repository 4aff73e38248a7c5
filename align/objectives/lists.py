"""Losses on the order of a list by log-ratios to a reference: Plackett-Luce, softmax, pairs weighted by DCG.

Annotations are evaluated here, for subclasses in other files (see `align.objectives.objective`).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.errors import DataError
from align.objectives.objective import holds
from align.objectives.ranking import MASKED, RankingObjective
from align.objectives.reward_values import RewardTransform
from align.records import ListScores


@dataclass(frozen=True)
class LogRatioLists(RankingObjective):
    """Objectives on h, the log-ratio of each response to the reference, scaled by beta."""

    requires = frozenset({"reference"})

    beta: float = 0.1
    """Strength of the pull to the reference policy, per nat; positive."""
    normalization: Literal["sequence", "token"] = "sequence"
    """Take log-ratios of the whole response or per token."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")

    def rewards(self, policy: ListScores, reference: ListScores) -> Float[Tensor, "group candidate"]:
        """Return beta h."""
        ratios = policy.logprobs - reference.logprobs
        return self.beta * (ratios / policy.lengths if self.normalization == "token" else ratios)


@dataclass(frozen=True)
class ListMLE(LogRatioLists):
    """Plackett-Luce likelihood of the order (DPO's list form: Rafailov et al. 2023, arXiv:2305.18290, appendix A.3).

    ListMLE is Xia et al. 2008. Each response is drawn from itself and all strictly worse ones, so that tied ones do not
    compete; without ties that is the paper's. Two responses give the DPO loss.
    """

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the negative log-likelihood of each list's order, in nats."""
        h = self.rewards(policy, reference)
        worse = policy.better()
        own = torch.eye(h.shape[1], dtype=torch.bool, device=h.device)
        logits = h[:, None, :].where(worse | own, MASKED)
        return (logits.logsumexp(2) - h).where(worse.any(2), 0).sum(1)


@dataclass(frozen=True)
class ListSoftmax(LogRatioLists):
    """Softmax cross-entropy with the best response as target (LiPO's `softmax`, Liu et al. 2024, arXiv:2402.01878).

    ListNet (Cao et al. 2007) with all the target's weight on the responses of rank 0, shared where they are tied.
    `InfoNCA` spreads it by rewards. Two responses give the DPO loss.
    """

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the cross-entropy of each list, in nats."""
        logs = self.rewards(policy, reference).where(policy.mask, MASKED).log_softmax(1)
        best = (policy.ranks == 0) & policy.mask
        return -(logs.where(best, 0).sum(1) / best.sum(1).clamp(min=1))


@dataclass(frozen=True)
class LiPO(LogRatioLists):
    """LiPO-lambda (Liu et al. 2024, arXiv:2402.01878): pairs weighted by what a swap does to DCG.

    Weights |2^psi_i - 2^psi_j| |1/D(i) - 1/D(j)|, D = log(1 + rank by the policy's scores), have no gradient. psi is
    the reward; the paper's lies between 0 and 1 (`reward_transform: Sigmoid` brings any there). Two responses give the
    DPO loss times a constant.
    """

    reward_transform: RewardTransform | None = None
    """What is done to rewards before they become gains; null takes them raw."""

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the weighted logistic losses of each list's pairs. Raises ValueError without rewards."""
        scores = self.rewards(policy, reference)
        values = known_rewards(self, policy, self.reward_transform)
        better = (values[:, :, None] > values[:, None, :]) & policy.mask[:, :, None] & policy.mask[:, None, :]
        weights = self._weights(scores.detach().where(policy.mask, MASKED), values)
        losses = -F.logsigmoid(scores[:, :, None] - scores[:, None, :])
        return (weights * losses).where(better, 0).sum((1, 2))

    def check_labels(self, given: ListScores) -> None:
        """Raise DataError where a response has no reward."""
        known_rewards(self, given)

    @staticmethod
    def _weights(scores: Tensor, values: Tensor) -> Float[Tensor, "group candidate candidate"]:
        ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1
        discount, gain = 1 / torch.log1p(ranks.to(scores.dtype)), 2**values
        return (gain[:, :, None] - gain[:, None, :]).abs() * (discount[:, :, None] - discount[:, None, :]).abs()


def known_rewards(
    objective: RankingObjective, lists: ListScores, transform: RewardTransform | None = None
) -> Float[Tensor, "group candidate"]:
    """Return the rewards of the data, 0 outside the mask. Raises DataError where a response has none."""
    if not holds(lists.graded):
        raise DataError(f"{type(objective).__name__} needs a reward for every response of the data, some have none")
    rewards = lists.scores.where(lists.mask, 0)
    return rewards if transform is None else transform(rewards, lists.mask)
