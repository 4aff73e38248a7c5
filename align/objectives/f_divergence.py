"""DPO under divergences other than the reverse KL."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from align.objectives.pairwise import SmoothedObjective, log_ratios, logistic
from align.records import PairScores

MAX_EXPONENT = 80.0
"""Largest exponent of a ratio, as in TRL: beyond it exp leaves float32, and the loss has no gradient."""


class Divergence(ABC):
    """A divergence between policy and reference, by the derivative of its generator f."""

    @abstractmethod
    def __call__(self, log_ratio: Tensor) -> Tensor:
        """Return f' at the ratio with this logarithm, up to a constant."""


@dataclass(frozen=True)
class ForwardKL(Divergence):
    """f'(t) = 1 - 1/t: covers all the reference does."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        """Return f' at the ratio."""
        return 1 - (-log_ratio).clamp(max=MAX_EXPONENT).exp()


@dataclass(frozen=True)
class JensenShannon(Divergence):
    """f'(t) = log(2t / (1 + t)): bounded above, so a ratio that has grown is not pushed further."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        """Return f' at the ratio."""
        return math.log(2) + F.logsigmoid(log_ratio)


@dataclass(frozen=True)
class Alpha(Divergence):
    """f'(t) = (t^(alpha - 1) - 1) / (alpha - 1) in TRL's parameter: 1 the reverse KL, 0 the forward KL."""

    alpha: float = 0.5
    """Any number but 1."""

    def __post_init__(self) -> None:
        if self.alpha == 1:
            raise ValueError("alpha must differ from 1, got 1: that is the reverse KL of align.objectives.pairwise.DPO")

    def __call__(self, log_ratio: Tensor) -> Tensor:
        """Return f' at the ratio."""
        exponent = ((self.alpha - 1) * log_ratio).clamp(max=MAX_EXPONENT)
        return torch.expm1(exponent) / (self.alpha - 1)


@dataclass(frozen=True)
class FDPO(SmoothedObjective):
    """f-DPO (Wang et al. 2023, arXiv:2309.16240; TRL's `f_divergence_type` with loss `sigmoid`).

    The reverse KL is `align.objectives.pairwise.DPO`. Exponents are capped at 80, as TRL does for alpha-divergences;
    for the forward KL, which is alpha 0, it has no cap.
    """

    divergence: Divergence = JensenShannon()
    """What takes the place of the reverse KL."""

    def __call__(self, policy: PairScores, reference: PairScores) -> Tensor:
        """Return the logistic loss of the difference of the rewards."""
        chosen, rejected = self.rewards(policy, reference).unbind(-1)
        return logistic(chosen - rejected, self.label_smoothing)

    def rewards(self, policy: PairScores, reference: PairScores) -> Tensor:
        """Return beta times f' of both ratios."""
        return self.beta * torch.stack([self.divergence(r) for r in log_ratios(policy, reference)], dim=-1)
