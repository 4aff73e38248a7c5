"""Losses that raise the likelihood of a list's best response: RRHF, which also ranks, and best-of-n fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.objectives.ranking import RankingObjective
from align.records import ListScores


@dataclass(frozen=True)
class RRHF(RankingObjective):
    """Rank responses to align (Yuan et al. 2023, arXiv:2304.05302), with p = log-probability / |y|^a.

    The paper's likelihood term sums over tokens; its code takes the mean over the padded row, prompt included, which is
    left out here. The code's default weight of the ranking term is 100, its scripts give 1, and it compares responses
    across the flattened batch, so it is right only with one prompt per device; here each list is its own.
    """

    rank_weight: float = 1.0
    """Weight of the ranking term."""
    length_power: float = 1.0
    """The exponent a; 1 is the mean over tokens."""
    sft_weight: float = 1.0
    """Weight of the likelihood of the best response."""
    sft_reduction: Literal["token_mean", "sum"] = "token_mean"
    """Take that likelihood per token or of the whole response."""

    def __post_init__(self) -> None:
        for name in ("rank_weight", "length_power", "sft_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the loss of each list; tied responses do not compete."""
        parts = self.parts(policy, reference)
        return parts["rank"] + parts["sft"]

    def parts(self, policy: ListScores, reference: ListScores) -> dict[str, Float[Tensor, " group"]]:
        """Return the weighted ranking and likelihood terms."""
        p = self.rewards(policy, reference)
        shortfall = F.relu(p[:, None, :] - p[:, :, None]).where(policy.better(), 0)
        nll = -(policy.means if self.sft_reduction == "token_mean" else policy.logprobs)[:, 0]
        return {"rank": self.rank_weight * shortfall.sum((1, 2)), "sft": self.sft_weight * nll}

    def rewards(self, policy: ListScores, reference: ListScores) -> Float[Tensor, "group candidate"]:
        """Return p."""
        return policy.logprobs / policy.lengths**self.length_power


@dataclass(frozen=True)
class BestOfNLikelihood(RankingObjective):
    """Likelihood of the response with the highest reward (best-of-n fine-tuning, a baseline of PRO's Table 2).

    Its data view keeps that response only, so the others cost nothing.
    """

    view = "best_by_reward"  # type: ignore[assignment]  # mypy takes the base class to allow its own value only

    reduction: Literal["sum", "token_mean"] = "sum"
    """Take the likelihood of the whole response, as PRO's SFT term does, or per token."""

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the negative log-likelihood of each list's first response."""
        return -self.rewards(policy, reference)[:, 0]

    def rewards(self, policy: ListScores, reference: ListScores) -> Float[Tensor, "group candidate"]:
        """Return the log-probabilities."""
        return policy.logprobs if self.reduction == "sum" else policy.means
