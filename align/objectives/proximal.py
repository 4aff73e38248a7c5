"""Proximal policy optimisation of a policy with a critic: rewards of tokens, their advantages, both losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from align.errors import ConfigError
from align.objectives.generalized_advantage import Estimates, generalized_advantages, whitened
from align.objectives.objective import Objective
from align.objectives.policy_gradient import Estimator, kl_estimate
from align.objectives.surrogates import ClippedRatio, Surrogate
from align.records import SampledTokens


@dataclass(frozen=True)
class AdaptiveKL:
    """A coefficient that follows a target (Ziegler et al. 2019, arXiv:1909.08593, section 2.2)."""

    target: float = 6.0
    """KL from the reference, summed over a sample, in nats."""
    horizon: int = 10000
    """Samples after which an error of 20 % or more has moved the coefficient by a fifth."""

    def __post_init__(self) -> None:
        if self.target <= 0 or self.horizon < 1:
            raise ConfigError(
                f"objective.adaptive_kl: target must be positive and horizon at least 1, got {self.target}, "
                f"{self.horizon}"
            )

    def next(self, coefficient: float, kl: float, samples: int) -> float:
        """Return the coefficient after so many samples with a mean KL."""
        return coefficient * (1 + min(max(kl / self.target - 1, -0.2), 0.2) * samples / self.horizon)


@dataclass(frozen=True)
class PPO(Objective):
    """RLHF by PPO (Ouyang et al. 2022, arXiv:2203.02155; Schulman et al. 2017, arXiv:1707.06347).

    Every token costs the divergence from the reference, the last one also has the sample's score. Clips and weights are
    those of TRL's former PPOTrainer; the stabilisers are those of PPO-max (Zheng et al. 2023, arXiv:2307.04964).
    """

    kl_coef: float = 0.05
    """Weight of the divergence in the rewards; where it begins under `adaptive_kl`."""
    kl: Estimator = "k1"
    """Its estimate at each token."""
    score_at: Literal["last_token", "eos_plus_one"] = "last_token"
    """Where a sample's score stands: at its last token, or one position behind its end, whose value the critic learns
    too, as TRL's former PPOTrainer had it; a sample cut off at its limit has no end, and its score at the last token.
    (TRL's had none behind an end in the last column of a batch, which is not read here.)"""
    gamma: float = 1.0
    """Discount."""
    lam: float = 0.95
    """Decay of the generalised advantage estimate."""
    surrogate: Surrogate = field(default_factory=ClippedRatio)
    """What of the importance ratio has a gradient."""
    cliprange_value: float | None = 0.2
    """How far a value may move from that of the round's start before its gradient stops; null does not clip."""
    ratio_threshold: float | None = 10.0
    """A step whose tokens have a mean importance ratio above this is left out (TRL's former PPOTrainer, by mini-batch);
    null takes every step."""
    vf_coef: float = 0.1
    """Weight of the critic's loss."""
    entropy_weight: float = 0.0
    """Weight of the mean entropy per token, which the loss raises."""
    whiten_advantages: bool = True
    """Give the advantages of a round mean 0 and variance 1."""
    whiten_rewards: bool = False
    """Give the rewards of a round's tokens variance 1; their mean stays."""
    normalize_scores: bool = False
    """Give the scores of a round mean 0 and variance 1, before they are clipped."""
    clip_scores: float | None = None
    """Largest size of a score; null does not clip."""
    adaptive_kl: AdaptiveKL | None = None
    """Move `kl_coef` towards a target; null leaves it as it is."""

    view = "samples"
    requires = frozenset({"reference", "values"})
    learning_rates = (1e-6, 1e-5)

    def __post_init__(self) -> None:
        for name in ("kl_coef", "vf_coef", "entropy_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"objective.{name} must not be negative, got {getattr(self, name)}")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"objective.{name} must lie in [0, 1], got {getattr(self, name)}")
        for name, least in (("cliprange_value", 0), ("clip_scores", 0), ("ratio_threshold", 1)):
            if getattr(self, name) is not None and getattr(self, name) <= least:
                raise ConfigError(f"objective.{name} must be above {least} or null, got {getattr(self, name)}")
        if self.adaptive_kl is not None and not self.kl_coef:
            raise ConfigError("objective.adaptive_kl has nothing to move at kl_coef 0: set kl_coef")

    @property
    def reads_ends(self) -> bool:
        """Whether values behind the samples' ends are read."""
        return self.score_at == "eos_plus_one"

    def scores(self, rewards: Float[NDArray[np.float64], " sample"]) -> NDArray[np.float64]:
        """Return the scores of a round, normalised and clipped as asked."""
        if self.normalize_scores:
            rewards = whitened(rewards)
        return rewards if self.clip_scores is None else np.clip(rewards, -self.clip_scores, self.clip_scores)

    def estimates(
        self,
        scores: Float[NDArray[np.float64], " sample"],
        divergence: Float[NDArray[np.float64], " token"],
        values: Float[NDArray[np.float64], " token"],
        lengths: NDArray[np.int64],
        *,
        kl_coef: float,
        end_values: Float[NDArray[np.float64], " sample"] | None = None,
    ) -> Estimates:
        """Return advantages and returns of a round: -kl_coef times the divergence, and the scores.

        `end_values` are those of the states behind the samples' ends, where scores stand there; NaN of one without.
        """
        has_end = np.zeros(len(lengths), dtype=bool) if end_values is None else ~np.isnan(end_values)
        behind, rewards = np.cumsum(lengths), -kl_coef * divergence
        rewards[behind[~has_end] - 1] += scores[~has_end]
        if end_values is not None:
            rewards = np.insert(rewards, behind[has_end], scores[has_end])
            values = np.insert(values, behind[has_end], end_values[has_end])
        if self.whiten_rewards:
            rewards = whitened(rewards) + rewards.mean()
        found = generalized_advantages(rewards, values, lengths + has_end, gamma=self.gamma, lam=self.lam)
        if end_values is not None:
            found = found.without_ends(np.cumsum(lengths + has_end) - 1, has_end)
        return found._replace(advantages=whitened(found.advantages)) if self.whiten_advantages else found

    def divergence(self, policy: Tensor, reference: Tensor) -> Tensor:
        """Return the estimate at each token."""
        return kl_estimate(self.kl, policy, reference)

    def __call__(self, tokens: SampledTokens) -> tuple[Float[Tensor, " token"], Tensor]:
        """Return the policy's loss of each token, and where the surrogate clips."""
        losses, clipped = self.surrogate(tokens, tokens.logprobs - tokens.old_logprobs)
        return self.surrogate.corrected(losses, tokens), clipped

    def value_losses(self, tokens: SampledTokens) -> tuple[Float[Tensor, " token"], Tensor]:
        """Return half the squared error of each token's value, the larger of plain and clipped, and where it clips."""
        assert tokens.values is not None
        assert tokens.old_values is not None
        assert tokens.returns is not None
        errors = (tokens.values - tokens.returns).square()
        if self.cliprange_value is None:
            return errors / 2, torch.zeros_like(errors, dtype=torch.bool)
        moved = (tokens.values - tokens.old_values).clamp(-self.cliprange_value, self.cliprange_value)
        clipped = (tokens.old_values + moved - tokens.returns).square()
        return torch.maximum(errors, clipped) / 2, clipped > errors
