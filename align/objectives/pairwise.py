"""Losses on pairs of responses, from their summed log-probabilities under policy and reference."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.objectives.objective import Objective
from align.records import PairScores


class PairObjective(Objective):
    """A loss on chosen and rejected responses."""

    view = "pairs"

    @abstractmethod
    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of each pair."""

    @abstractmethod
    def rewards(self, policy: PairScores, reference: PairScores) -> Float[Tensor, "group 2"]:
        """Return the implicit rewards of chosen and rejected, for the logs."""


@dataclass(frozen=True)
class LogRatioObjective(PairObjective):
    """Objectives on the log-ratio to the reference, scaled by beta."""

    beta: float = 0.1
    """Strength of the pull to the reference policy, per nat; positive."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")

    def rewards(self, policy: PairScores, reference: PairScores) -> Float[Tensor, "group 2"]:
        """Return beta times the log-ratios (Rafailov et al. 2023, section 4)."""
        return self.beta * torch.stack(log_ratios(policy, reference), dim=-1)

    def margin(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return beta times the difference of the log-ratios."""
        return self.beta * (policy.chosen - policy.rejected - (reference.chosen - reference.rejected))


@dataclass(frozen=True)
class SmoothedObjective(LogRatioObjective):
    """Objectives that allow for flipped labels."""

    label_smoothing: float = 0.0
    """Assumed probability that a label is flipped, in [0, 0.5)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_smoothing(self.label_smoothing)


@dataclass(frozen=True)
class DPO(SmoothedObjective):
    """Direct Preference Optimization (Rafailov et al. 2023, arXiv:2305.18290, Eq. 7).

    With label smoothing it is the conservative form of Mitchell (2023, "A note on DPO with noisy preferences", Eq. 3);
    TRL's `sigmoid` ignores the smoothing and its `robust` is another loss.
    """

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of each pair, in nats; scores are summed response log-probabilities."""
        return logistic(self.margin(policy, reference), self.label_smoothing)


@dataclass(frozen=True)
class IPO(LogRatioObjective):
    """Identity Preference Optimization (Azar et al. 2023, arXiv:2310.12036, Eq. 17; beta is the paper's tau).

    The paper and its reference code use the log-probability of the whole response (`sequence`); TRL divides by the
    number of tokens (`token`), which is the default here because beta then does not depend on length.
    """

    normalization: Literal["token", "sequence"] = "token"
    """Take log-ratios per token or of the whole response."""

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the squared distance of each pair's log-ratio difference to 1 / (2 beta)."""
        chosen, rejected = log_ratios(policy, reference)
        if self.normalization == "token":
            chosen, rejected = chosen / policy.chosen_lengths, rejected / policy.rejected_lengths
        return (chosen - rejected - 1 / (2 * self.beta)) ** 2


@dataclass(frozen=True)
class Hinge(LogRatioObjective):
    """Hinge on the log-ratio margin (RSO, Liu et al. 2023, arXiv:2309.06657, `hinge-norm`).

    It is the rank calibration of SLiC (Zhao et al. 2023, arXiv:2305.10425) with the reference's log-probabilities
    subtracted, and TRL's `hinge`.
    """

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return how far each pair's margin falls short of 1."""
        return F.relu(1 - self.margin(policy, reference))


def log_ratios(policy: PairScores, reference: PairScores) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
    """Return the log-ratios to the reference of chosen and rejected."""
    return policy.chosen - reference.chosen, policy.rejected - reference.rejected


def logistic(margin: Float[Tensor, " group"], label_smoothing: float = 0.0) -> Float[Tensor, " group"]:
    """Return the logistic loss of a margin, expected over labels flipped with probability `label_smoothing`."""
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def check_smoothing(label_smoothing: float) -> None:
    """Raise ValueError for a flip probability outside [0, 0.5)."""
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must lie in [0, 0.5), got {label_smoothing}")
