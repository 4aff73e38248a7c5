"""Losses on single responses that are desirable (label 1) or not (label 0)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from align.errors import DataError
from align.objectives.objective import Objective, holds
from align.records import PointScores


class PointwiseContext(NamedTuple):
    """What an objective asked for by its `requires`; null where it did not."""

    mismatched_kl: Float[Tensor, ""] | None = None
    """Mean log-ratio of responses under other prompts, over all ranks, not below 0."""
    reward_shift: Float[Tensor, ""] | None = None
    """Running mean of the log-ratios seen in training, over all ranks."""
    values: Float[Tensor, " candidate"] | None = None
    """The value head's estimate for the prompt of each response."""
    forward_kl: Float[Tensor, " candidate"] | None = None
    """KL from reference to policy, summed over the tokens of each response, in nats."""


class PointObjective(Objective):
    """A loss on labelled responses."""

    @abstractmethod
    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return the loss of each response."""

    @abstractmethod
    def rewards(self, policy: PointScores, reference: PointScores) -> Float[Tensor, " candidate"]:
        """Return the implicit reward of each response, for the logs."""

    def check_labels(self, given: PointScores) -> None:
        """Raise DataError where labels are not those of the view."""
        if self.view == "unpaired":
            is_desirable(given)


@dataclass(frozen=True)
class RatioPointObjective(PointObjective):
    """Objectives on the log-ratio to the reference, scaled by beta."""

    beta: float = 0.1
    """Strength of the pull to the reference policy, per nat; positive."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")

    def rewards(self, policy: PointScores, reference: PointScores) -> Float[Tensor, " candidate"]:
        """Return beta times the log-ratios."""
        return self.beta * (policy.logprobs - reference.logprobs)


@dataclass(frozen=True)
class KTO(RatioPointObjective):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306, Eq. 7 and 8; TRL's KTO trainer).

    Its reference point is an estimate from each optimiser step, responses taken with other rows' prompts, so the number
    of rows in a step changes the loss, and how it is cut into micro-batches does not. As in TRL the loss is
    lambda (1 - v), the paper's lambda - v up to a constant.
    """

    view = "unpaired"
    requires = frozenset({"reference", "mismatched_kl"})

    desirable_weight: float = 1.0
    """Factor on desirable responses, lambda_D; not negative."""
    undesirable_weight: float = 1.0
    """Factor on undesirable responses, lambda_U; not negative."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("desirable_weight", "undesirable_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return the loss of each response, between 0 and its weight."""
        assert context.mismatched_kl is not None
        desirable = is_desirable(policy)
        gain = self.rewards(policy, reference) - self.beta * context.mismatched_kl
        weights = torch.full_like(gain, self.undesirable_weight).masked_fill(desirable, self.desirable_weight)
        return weights * torch.where(desirable, -gain, gain).sigmoid()


@dataclass(frozen=True)
class BCO(RatioPointObjective):
    """Binary classifier optimisation (Jung et al. 2024, arXiv:2404.04656; TRL's former BCO trainer).

    Rewards are classified against a shift: as in TRL the mean of all rewards seen so far, this optimiser step
    included, so the order of the data and the number of rows in a step change the loss. The weighting of undesirable
    rows for other prompt distributions (UDM) is not here: give examples weights.
    """

    view = "unpaired"
    requires = frozenset({"reference", "reward_shift"})

    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return the logistic loss of each response."""
        assert context.reward_shift is not None
        gain = self.rewards(policy, reference) - self.beta * context.reward_shift
        return -F.logsigmoid(torch.where(is_desirable(policy), gain, -gain))


@dataclass(frozen=True)
class PMPO(PointObjective):
    """Preference optimisation as probabilistic inference (Abdolmaleki et al. 2024, arXiv:2410.04166).

    Maximises alpha E+[log p] - (1 - alpha) E-[log p] - beta KL(reference || policy). The expectations are taken over
    all rows, so that each kind counts by its share and accumulation is exact; either kind may be missing.
    """

    view = "unpaired"
    requires = frozenset({"reference", "forward_kl"})
    learning_rates = (8e-6, 8e-5)  # ours, as ORPO's: it too is likelihood beside a contrast

    alpha: float = 0.5
    """Share of the desirable rows, in [0, 1]; 1 ignores undesirable ones, 0 desirable ones."""
    beta: float = 0.5
    """Weight of the divergence, summed over the tokens of a response; not negative."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}")
        if not self.beta >= 0:
            raise ValueError(f"beta must not be negative, got {self.beta}")

    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return the loss of each response, in nats."""
        assert context.forward_kl is not None
        weights = torch.full_like(policy.logprobs, 1 - self.alpha).masked_fill(is_desirable(policy), -self.alpha)
        return weights * policy.logprobs + self.beta * context.forward_kl

    def rewards(self, policy: PointScores, reference: PointScores) -> Float[Tensor, " candidate"]:
        """Return the log-ratios."""
        return policy.logprobs - reference.logprobs


def is_desirable(scores: PointScores) -> Bool[Tensor, " candidate"]:
    """Return which labels are 1. Raises DataError for a label that is neither 1 nor 0."""
    desirable = scores.labels == 1
    if not holds(desirable | (scores.labels == 0)):
        raise DataError(f"labels must be 1 (desirable) or 0 (undesirable), got {sorted(set(scores.labels.tolist()))}")
    return desirable
