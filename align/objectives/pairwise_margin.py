"""Further losses on the difference of a pair's log-ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.objectives.pairwise import LogRatioObjective, SmoothedObjective, log_ratios, logistic
from align.records import PairScores


@dataclass(frozen=True)
class LengthNormalizedDPO(SmoothedObjective):
    """DPO on log-ratios per token (Lambert et al. 2024, Tülu 3, arXiv:2411.15124; TRL's `sigmoid_norm`)."""

    beta: float = 5.0
    """Strength of the pull to the reference policy, per nat and token; positive."""

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the logistic loss of the difference of the rewards."""
        chosen, rejected = self.rewards(policy, reference).unbind(-1)
        return logistic(chosen - rejected, self.label_smoothing)

    def rewards(self, policy: PairScores, reference: PairScores) -> Float[Tensor, "group 2"]:
        """Return beta times the log-ratios per token."""
        chosen, rejected = log_ratios(policy, reference)
        return self.beta * torch.stack([chosen / policy.chosen_lengths, rejected / policy.rejected_lengths], dim=-1)


@dataclass(frozen=True)
class RobustDPO(SmoothedObjective):
    """Robust DPO (Chowdhury et al. 2024, arXiv:2403.00409; TRL's `robust`).

    The smoothed loss with its sign of the flipped term turned and divided by 1 - 2 label_smoothing: its expectation
    over labels flipped with that probability is DPO's loss on the true ones. It is not bounded below.
    """

    label_smoothing: float = 0.1
    """Probability that a label is flipped, in [0, 0.5)."""

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the unbiased loss of each pair."""
        margin = self.margin(policy, reference)
        kept, flipped = -F.logsigmoid(margin), -F.logsigmoid(-margin)
        noise = self.label_smoothing
        return ((1 - noise) * kept - noise * flipped) / (1 - 2 * noise)


@dataclass(frozen=True)
class EXO(SmoothedObjective):
    """Efficient exact optimisation on pairs (Ji et al. 2024, arXiv:2402.00856, Eq. 16; TRL's `exo_pair`).

    The reverse KL from the policy's choice between the two responses to the label's; DPO takes the forward one.
    """

    label_smoothing: float = 1e-3
    """Probability the label leaves to the rejected response, in (0, 0.5)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_smoothing == 0:
            raise ValueError("label_smoothing must be positive for EXO, got 0: the divergence would be infinite")

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the divergence of each pair, in nats."""
        margin = self.margin(policy, reference)
        chosen = F.logsigmoid(margin) - math.log1p(-self.label_smoothing)
        rejected = F.logsigmoid(-margin) - math.log(self.label_smoothing)
        return margin.sigmoid() * chosen + (-margin).sigmoid() * rejected


@dataclass(frozen=True)
class DiscoPOP(LogRatioObjective):
    """Log-ratio modulated loss (Lu et al. 2024, arXiv:2406.08414, Eq. 5; TRL's `discopop`).

    A blend of the logistic and the exponential loss; a language model found it, and it is not convex.
    """

    tau: float = 0.05
    """Width of the blend, in units of the margin; positive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tau > 0:
            raise ValueError(f"tau must be positive, got {self.tau}")

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the blended loss of each pair."""
        margin = self.margin(policy, reference)
        share = (margin / self.tau).sigmoid()
        return (1 - share) * logistic(margin) + share * (-margin).exp()


@dataclass(frozen=True)
class VPO(SmoothedObjective):
    """Pessimistic value-incentivised preference optimisation (Cen et al. 2024, arXiv:2405.19320, offline).

    The likelihood of the data less alpha times the value of the best policy under the reward. With a reward that has
    mean 0 on the calibrating responses, here the chosen ones, that value is -beta times their mean log-ratio, so that
    the policy is held to them. The optimistic form, online and calibrated by the reference, has the other sign: it is
    `align.modules.xpo.XPOModule`.
    """

    alpha: float = 0.1
    """Weight of the pessimism; positive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive, got {self.alpha}: 0 is DPO")

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return DPO's loss of each pair less alpha times the chosen response's reward."""
        chosen = self.rewards(policy, reference)[:, 0]
        return logistic(self.margin(policy, reference), self.label_smoothing) - self.alpha * chosen
