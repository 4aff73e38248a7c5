"""Losses on pairs of responses that need no reference policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.objectives.pairwise import PairObjective, check_smoothing, logistic
from align.records import PairScores


class ReferenceFreeObjective(PairObjective):
    """Objectives on the policy's log-probabilities alone."""

    requires = frozenset()

    def rewards(self, policy: PairScores, reference: PairScores) -> Float[Tensor, "group 2"]:
        """Return the log-probabilities."""
        return torch.stack([policy.chosen, policy.rejected], dim=-1)


@dataclass(frozen=True)
class ScaledObjective(ReferenceFreeObjective):
    """Objectives on the policy's log-probabilities, scaled by beta."""

    beta: float = 0.1
    """Factor on log-probabilities, per nat; positive."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")

    def rewards(self, policy: PairScores, reference: PairScores) -> Float[Tensor, "group 2"]:
        """Return beta times the log-probabilities."""
        return self.beta * torch.stack([policy.chosen, policy.rejected], dim=-1)


@dataclass(frozen=True)
class SimPO(ScaledObjective):
    """Simple preference optimisation (Meng et al. 2024, arXiv:2405.14734, Eq. 6; TRL's CPO trainer with `simpo`)."""

    step_groups = 128

    beta: float = 2.0
    gamma: float = 1.0
    """Margin by which the chosen reward should lead; TRL's `simpo_gamma`."""
    label_smoothing: float = 0.0
    """Assumed probability that a label is flipped, in [0, 0.5)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_smoothing(self.label_smoothing)
        if not self.gamma >= 0:
            raise ValueError(f"gamma must not be negative, got {self.gamma}")

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of each pair, in nats."""
        chosen, rejected = self.rewards(policy, reference).unbind(-1)
        return logistic(chosen - rejected - self.gamma, self.label_smoothing)

    def rewards(self, policy: PairScores, reference: PairScores) -> Float[Tensor, "group 2"]:
        """Return beta times the mean log-probabilities of a token."""
        return self.beta * torch.stack(_means(policy), dim=-1)


@dataclass(frozen=True)
class CPO(ScaledObjective):
    """Contrastive preference optimisation (Xu et al. 2024, arXiv:2401.08417, Eq. 3-5; TRL's CPO trainer).

    The likelihood term is a mean over a response's tokens and then over responses; the paper writes the sum over
    tokens, TRL a mean over the tokens of a batch.
    """

    learning_rates = (8e-6, 8e-5)  # of TRL's example of CPO; the likelihood term is fine-tuning

    label_smoothing: float = 0.0
    """Assumed probability that a label is flipped, in [0, 0.5)."""
    nll_weight: float = 1.0
    """Weight of the chosen response's negative log-likelihood; TRL's `cpo_alpha`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_smoothing(self.label_smoothing)
        if not self.nll_weight >= 0:
            raise ValueError(f"nll_weight must not be negative, got {self.nll_weight}")

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of each pair, in nats."""
        margin = self.beta * (policy.chosen - policy.rejected)
        return logistic(margin, self.label_smoothing) - self.nll_weight * _means(policy)[0]


@dataclass(frozen=True)
class ORPO(ScaledObjective):
    """Odds-ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691, Eq. 6 and 7; beta is the paper's lambda).

    The likelihood term is over the response, as the paper writes it; its code and TRL also count the prompt's tokens.
    """

    learning_rates = (8e-6, 8e-5)  # of TRL's example of ORPO; the likelihood term is fine-tuning

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of each pair, in nats."""
        chosen, rejected = _means(policy)
        return -chosen + self.beta * logistic(_log_odds(chosen) - _log_odds(rejected))

    def rewards(self, policy: PairScores, reference: PairScores) -> Float[Tensor, "group 2"]:
        """Return beta times the mean log-probabilities of a token."""
        return self.beta * torch.stack(_means(policy), dim=-1)


@dataclass(frozen=True)
class SLiC(ReferenceFreeObjective):
    """SLiC-HF in its original form (Zhao et al. 2023, arXiv:2305.10425, Eq. 1): raw log-probabilities, no reference.

    The paper's regularisation target is the chosen response here. TRL's `hinge` is `align.objectives.pairwise.Hinge`.
    """

    learning_rates = (1e-5, 1e-4)  # the paper's 1e-5; the likelihood term is fine-tuning

    delta: float = 1.0
    """Margin of log-probability by which the chosen response should lead, in nats."""
    nll_weight: float = 0.1
    """Weight of the chosen response's negative log-likelihood, summed over its tokens; the paper's lambda."""

    def __post_init__(self) -> None:
        for name in ("delta", "nll_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of each pair, in nats."""
        return F.relu(self.delta - policy.chosen + policy.rejected) - self.nll_weight * policy.chosen


@dataclass(frozen=True)
class CPL(ScaledObjective):
    """Contrastive preference learning (Hejna et al. 2023, arXiv:2310.13639, Eq. 5, with its bias on the loser).

    The paper's discount is the `reduction` of `DPOModule`: `align.scoring.reductions.Discounted`; beta is its alpha.
    With bias 1 and no discount it is DPO without a reference.
    """

    bias: float = 0.5
    """Factor on the rejected response, in (0, 1]; below 1 it keeps both from falling. The paper's lambda."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.bias <= 1:
            raise ValueError(f"bias must lie in (0, 1], got {self.bias}")

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the loss of each pair, in nats."""
        return logistic(self.beta * (policy.chosen - self.bias * policy.rejected))


@dataclass(frozen=True)
class ChosenLikelihood(ReferenceFreeObjective):
    """Negative log-likelihood of the chosen response: the term other losses are summed with (TRL's `sft`).

    A mean over a response's tokens and then over responses; TRL takes the mean over the tokens of a batch.
    """

    learning_rates = (2e-5, 2e-4)  # those of SFTModule: it is fine-tuning

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the negative log-likelihood per token."""
        return -_means(policy)[0]


def _means(policy: PairScores) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
    return policy.chosen / policy.chosen_lengths, policy.rejected / policy.rejected_lengths


def _log_odds(mean: Float[Tensor, " group"]) -> Float[Tensor, " group"]:
    """Return log(p / (1 - p)) from log p, finite where p rounds to 1."""
    mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    complement = torch.where(mean > -math.log(2), (-torch.expm1(mean)).log(), torch.log1p(-mean.exp()))
    return mean - complement
