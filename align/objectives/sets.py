"""Losses on sets of responses with rewards, by log-ratios to a reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.objectives.lists import LogRatioLists, known_rewards
from align.objectives.ranking import MASKED
from align.records import ListScores


@dataclass(frozen=True)
class SetContrast(LogRatioLists):
    """Multi-preference optimisation (Gupta et al. 2024, arXiv:2412.04628, at first named SWEPO).

    Responses above their list's mean reward against all, each weighted by exp(alpha |r - mean|). With alpha 0 and one
    response in either set it is the DPO loss. A list of equal rewards has nothing above its mean and loss 0.
    """

    alpha: float = 1.0
    """How much more a response counts the further its reward is from the mean; 0 weighs all alike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha >= 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha}")

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the loss of each set, in nats. Raises ValueError without rewards."""
        rewards = known_rewards(self, policy)
        deviation = rewards - (rewards.sum(1) / policy.mask.sum(1))[:, None]
        logits = (self.rewards(policy, reference) + self.alpha * deviation.abs()).where(policy.mask, MASKED)
        above = (deviation > 0) & policy.mask
        contrast = logits.logsumexp(1) - logits.where(above, MASKED).logsumexp(1)
        return contrast.where(above.any(1), 0)

    def check_labels(self, given: ListScores) -> None:
        """Raise DataError where a response has no reward."""
        known_rewards(self, given)


@dataclass(frozen=True)
class InfoNCA(LogRatioLists):
    """Information noise contrastive alignment (Chen et al. 2024, arXiv:2402.05369).

    Cross-entropy of softmax(r / alpha) and softmax(beta h). As alpha falls to 0 the target is the best response alone
    (`ListSoftmax`), and two responses give the DPO loss.
    """

    alpha: float = 1.0
    """Temperature of the rewards; positive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive, got {self.alpha}")

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the loss of each set, in nats. Raises ValueError without rewards."""
        logs = self.rewards(policy, reference).where(policy.mask, MASKED).log_softmax(1)
        return -(self.target(policy) * logs.where(policy.mask, 0)).sum(1)

    def check_labels(self, given: ListScores) -> None:
        """Raise DataError where a response has no reward."""
        known_rewards(self, given)

    def target(self, policy: ListScores) -> Float[Tensor, "group candidate"]:
        """Return softmax(r / alpha) of each set, 0 outside the mask."""
        return (known_rewards(self, policy) / self.alpha).where(policy.mask, MASKED).softmax(1)


@dataclass(frozen=True)
class NCA(InfoNCA):
    """Noise contrastive alignment (Chen et al. 2024, arXiv:2402.05369).

    Each response is told from noise on its own, which holds the likelihood of good ones up; TRL's `nca_pair` is the
    form for two responses with all weight on the chosen one.
    """

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the loss of each set, in nats. Raises ValueError without rewards."""
        h = self.rewards(policy, reference)
        noise = F.logsigmoid(-h).where(policy.mask, 0).sum(1) / policy.mask.sum(1)
        return -(self.target(policy) * F.logsigmoid(h)).sum(1) - noise
