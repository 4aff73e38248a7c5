"""What of the importance ratio a policy-gradient loss lets through: clipped, truncated, gated, weighted."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from align.errors import ConfigError
from align.records import SampledTokens


class Surrogate(ABC):
    """One loss for each token, from the log-ratios of policy and sampling policy, and the advantages."""

    @abstractmethod
    def __call__(
        self, tokens: SampledTokens, log_ratios: Float[Tensor, " token"]
    ) -> tuple[Float[Tensor, " token"], Bool[Tensor, " token"]]:
        """Return the loss of each token, and at which of them the ratio has no gradient or less.

        Args:
            tokens: The samples.
            log_ratios: Of each token, or of its sample, as the objective takes them.
        """

    def corrected(self, losses: Float[Tensor, " token"], tokens: SampledTokens) -> Float[Tensor, " token"]:
        """Return losses of tokens that another engine drew: times our probability over its own, truncated."""
        return losses if tokens.engine_ratios is None else losses * tokens.engine_ratios


@dataclass(frozen=True)
class ClippedRatio(Surrogate):
    """PPO's clip (Schulman et al. 2017, arXiv:1707.06347, Eq. 7), as GRPO, DAPO, GSPO and RLOO take it."""

    low: float = 0.2
    """A ratio below 1 - low is not pushed further down."""
    high: float | None = None
    """A ratio above 1 + high is not pushed further up; null takes `low`. DAPO takes .28 ("clip higher")."""
    most: float | None = None
    """Largest ratio that a negative advantage is multiplied by (dual clip; TRL's `delta`); null has no such limit."""

    def __post_init__(self) -> None:
        high = self.low if self.high is None else self.high
        if self.low < 0 or high < 0 or (self.most is not None and self.most <= 1 + high):
            raise ConfigError(
                f"surrogate: low and high must not be negative and most be above 1 + high, got {self.low}, {self.high} "
                f"and {self.most}"
            )

    def __call__(
        self, tokens: SampledTokens, log_ratios: Float[Tensor, " token"]
    ) -> tuple[Float[Tensor, " token"], Bool[Tensor, " token"]]:
        """Return -min(ratio A, clip(ratio) A), and where the clip decides."""
        high = self.low if self.high is None else self.high
        ratios, advantages = log_ratios.exp(), tokens.advantages
        clipped = ratios.clamp(1 - self.low, 1 + high)
        bounded = ratios if self.most is None else ratios.clamp(max=self.most)
        down = (bounded < 1 - self.low) & (advantages < 0)
        up = (bounded > 1 + high) & (advantages > 0)
        return -torch.minimum(bounded * advantages, clipped * advantages), down | up


@dataclass(frozen=True)
class TruncatedRatio(Surrogate):
    """CISPO (MiniMax-M1, 2025, arXiv:2506.13585, Eq. 4): the truncated ratio weighs the log-likelihood's gradient."""

    most: float = 5.0
    """Largest weight; the paper's 1 + epsilon_high."""

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"surrogate.most must be at least 1, got {self.most}")

    def __call__(
        self, tokens: SampledTokens, log_ratios: Float[Tensor, " token"]
    ) -> tuple[Float[Tensor, " token"], Bool[Tensor, " token"]]:
        """Return -min(ratio, most) A log p, the weight without gradient, and where it is truncated."""
        ratios = log_ratios.detach().exp()
        weights = ratios.clamp(max=self.most)
        cut = (ratios > self.most) & (tokens.advantages > 0)
        return -weights * tokens.advantages * tokens.logprobs, cut


@dataclass(frozen=True)
class SoftGate(Surrogate):
    """SAPO (Gao et al. 2025, arXiv:2511.20347): a sigmoid of the ratio in the place of a clip."""

    positive: float = 1.0
    """Temperature where the advantage is positive."""
    negative: float = 1.05
    """Temperature elsewhere."""

    def __post_init__(self) -> None:
        if self.positive <= 0 or self.negative <= 0:
            raise ConfigError(f"surrogate: temperatures must be positive, got {self.positive} and {self.negative}")

    def __call__(
        self, tokens: SampledTokens, log_ratios: Float[Tensor, " token"]
    ) -> tuple[Float[Tensor, " token"], Bool[Tensor, " token"]]:
        """Return -4 / t sigmoid(t (ratio - 1)) A; nothing is clipped."""
        advantages = tokens.advantages
        heat = torch.full_like(advantages, self.negative).masked_fill(advantages > 0, self.positive)
        gated = torch.sigmoid(heat * (log_ratios.exp() - 1)) * 4 / heat
        return -gated * advantages, torch.zeros_like(advantages, dtype=torch.bool)


@dataclass(frozen=True)
class GammaWeighted(Surrogate):
    """VESPO (arXiv:2602.10693, as in TRL 1.16): e^l w^k e^(-l w) of a sample's ratio w weighs its log-likelihood."""

    k_positive: float = 2.0
    lambda_positive: float = 3.0
    k_negative: float = 3.0
    lambda_negative: float = 2.0

    def __post_init__(self) -> None:
        values = (self.k_positive, self.lambda_positive, self.k_negative, self.lambda_negative)
        if min(values) <= 0:
            raise ConfigError(f"surrogate: k and lambda must be positive, got {values}")

    def __call__(
        self, tokens: SampledTokens, log_ratios: Float[Tensor, " token"]
    ) -> tuple[Float[Tensor, " token"], Bool[Tensor, " token"]]:
        """Return -phi(w) A log p, the weight without gradient; nothing is clipped."""
        with torch.no_grad():
            each = (tokens.logprobs - tokens.old_logprobs).clamp(-20, 20)
            whole = tokens.sums(each * tokens.counted)
            if tokens.engine_ratios is not None:
                whole = whole + tokens.sums(tokens.engine_ratios.log().clamp(math.log(1e-8), 20) * tokens.counted)
            whole = tokens.on_tokens(whole).clamp(math.log(1e-8), 20)
            good = tokens.advantages >= 0
            k = torch.where(good, self.k_positive, self.k_negative)
            steep = torch.where(good, self.lambda_positive, self.lambda_negative)
            weights = (steep + k * whole - steep * whole.exp()).exp().nan_to_num(0.0, 0.0, 0.0)
        return -weights * tokens.advantages * tokens.logprobs, torch.zeros_like(good)

    def corrected(self, losses: Float[Tensor, " token"], tokens: SampledTokens) -> Float[Tensor, " token"]:
        """Return the losses: the other engine is in the ratio of the sample already."""
        return losses
