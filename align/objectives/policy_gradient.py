"""Policy-gradient losses on the samples of a prompt: GRPO, RLOO and their relatives as settings of one loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from align.errors import ConfigError
from align.objectives.advantages import GroupAdvantage
from align.objectives.objective import Objective
from align.objectives.surrogates import ClippedRatio, GammaWeighted, Surrogate
from align.records import SampledTokens

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(kind: Estimator, policy: Float[Tensor, " token"], reference: Float[Tensor, " token"]) -> Tensor:
    """Return an estimate of KL(policy, reference) at each token the policy drew (Schulman 2020, `kl-approx`).

    `k1` is log p/q, `k2` half its square, `k3` q/p - 1 - log q/p; `k1` and `k3` are unbiased, `k2` and `k3` not
    negative.
    """
    ratio = policy - reference
    if kind == "k1":
        return ratio
    return ratio.square() / 2 if kind == "k2" else (-ratio).exp() - 1 + ratio


@dataclass(frozen=True)
class PolicyGradient(Objective):
    """A surrogate of the importance ratio times the advantage, a divergence from the reference, an entropy bonus.

    The defaults are GRPO (Shao et al. 2024, arXiv:2402.03300, Eq. 3) without a KL term, which its successors leave out;
    `configs/method/` has Dr. GRPO, DAPO, GSPO, RLOO, REINFORCE++ and CISPO. Signs, means and clips are those of TRL
    1.16.
    """

    advantage: GroupAdvantage = field(default_factory=GroupAdvantage)
    """Rewards against each other."""
    surrogate: Surrogate = field(default_factory=ClippedRatio)
    """What of the importance ratio has a gradient."""
    ratio: Literal["token", "sequence", "product"] = "token"
    """Of each token; of the sample, its geometric mean over tokens (GSPO, arXiv:2507.18071, Eq. 7); or of the sample,
    the product over tokens (RLOO)."""
    mean: Literal["sequence", "token", "sum", "fixed"] = "sequence"
    """Of losses: over the tokens of a sample, then over samples (GRPO); over all tokens of the step (DAPO); summed over
    the tokens of a sample, then averaged over samples (LUSPO); the same divided by `length` (Dr. GRPO)."""
    length: int | None = None
    """Divisor of `mean: fixed`, such as the longest sample."""
    beta: float = 0.0
    """Weight of the divergence from the reference policy."""
    kl: Literal["k1_in_reward", "k2", "k3", "k3_weighted"] = "k3_weighted"
    """Where it stands: summed over the sample and taken off its reward (RLOO), or an estimate in the loss. GRPO's paper
    has `k3`, whose gradient is not that of the divergence; times the ratio it is (DeepSeek-V3.2, arXiv:2512.02556)."""
    entropy_weight: float = 0.0
    """Weight of the mean entropy per token, which the loss raises."""
    mask_truncated: bool = False
    """Leave samples cut off at their limit out of the loss; they stay in the baseline."""
    top_entropy_quantile: float = 1.0
    """Share of a step's tokens, those of the highest entropy, whose surrogate counts; 1 takes all, the paper 0.2 (Wang
    et al. 2025, arXiv:2506.01939, Eq. 5)."""
    off_policy_mask_threshold: float | None = None
    """Leave samples of negative advantage out of the surrogate that have become unlikely: whose mean over tokens of
    log old / policy is above this, old as the engine told it where another one drew (DeepSeek-V3.2, arXiv:2512.02556,
    Eq. 9). Null takes all; a round of one step of samples of our own leaves out none."""

    view = "samples"
    requires = frozenset({"reference"})
    learning_rates = (1e-6, 1e-5)

    def __post_init__(self) -> None:
        if self.beta < 0 or self.entropy_weight < 0:
            raise ConfigError(
                f"objective: beta and entropy_weight must not be negative, got {self.beta}, {self.entropy_weight}"
            )
        if (self.length is not None) != (self.mean == "fixed"):
            raise ConfigError(
                f"objective.length {self.length} belongs to mean fixed, which needs it: got mean {self.mean}"
            )
        if not 0 <= self.top_entropy_quantile <= 1:
            raise ConfigError(f"objective.top_entropy_quantile must lie in [0, 1], got {self.top_entropy_quantile}")
        if self.off_policy_mask_threshold is not None and not self.off_policy_mask_threshold > 0:
            raise ConfigError(
                f"objective.off_policy_mask_threshold must be positive or null, got {self.off_policy_mask_threshold}"
            )
        if not self.beta and self.kl != "k3_weighted":
            raise ConfigError(f"objective.kl {self.kl} has no effect at beta 0: set beta, or leave it out")
        if isinstance(self.surrogate, GammaWeighted) and self.ratio != "token":
            raise ConfigError("objective.ratio has no effect on GammaWeighted, which takes the whole sample: leave it")

    @property
    def reads_reference(self) -> bool:
        """Whether the reference's log-probabilities are read at all."""
        return self.beta > 0

    def shaped(self, rewards: Tensor, log_ratios: Tensor | None) -> Tensor:
        """Return rewards less the divergence summed over each sample, where it stands in the reward.

        Args:
            rewards: Of each sample.
            log_ratios: log policy / reference of each sample; None where the reference is not read.
        """
        if self.kl != "k1_in_reward" or log_ratios is None:
            return rewards
        return rewards - self.beta * log_ratios

    def __call__(self, tokens: SampledTokens) -> tuple[Float[Tensor, " token"], Bool[Tensor, " token"]]:
        """Return the loss of each token, before any mean, and at which of them the surrogate clips."""
        ratios = self._log_ratios(tokens)
        losses, clipped = self.surrogate(tokens, ratios)
        losses = self.surrogate.corrected(losses, tokens)
        if tokens.high_entropy is not None:
            losses = losses * tokens.high_entropy
        if self.off_policy_mask_threshold is not None:
            losses = losses * tokens.on_tokens(1 - self.off_policy(tokens))
        if self.kl == "k1_in_reward" or tokens.reference_logprobs is None:
            return losses, clipped
        estimate = kl_estimate("k2" if self.kl == "k2" else "k3", tokens.logprobs, tokens.reference_logprobs)
        return losses + self.beta * (estimate * ratios.exp() if self.kl == "k3_weighted" else estimate), clipped

    def off_policy(self, tokens: SampledTokens) -> Float[Tensor, " candidate"]:
        """Return 1 for every sample that is left out of the surrogate, because it is bad and the policy has left it."""
        drew = tokens.old_logprobs if tokens.engine_logprobs is None else tokens.engine_logprobs
        drift = (drew - tokens.logprobs.detach()).nan_to_num(nan=0.0) * tokens.counted
        left = tokens.sums(drift) / tokens.lengths > (self.off_policy_mask_threshold or 0.0)
        return (left & (tokens.sums(tokens.advantages) < 0)).to(drift.dtype)

    def _log_ratios(self, tokens: SampledTokens) -> Float[Tensor, " token"]:
        each = tokens.logprobs - tokens.old_logprobs
        if self.ratio == "token":
            return each
        sums = tokens.sums(each * tokens.counted)
        return tokens.on_tokens(sums / tokens.lengths if self.ratio == "sequence" else sums)

    def added_up(self, losses: Float[Tensor, " token"], tokens: SampledTokens) -> Tensor:
        """Return a batch's part of a sum over the step, divided later by its tokens (`mean: token`) or its samples."""
        counted = losses * tokens.counted
        if self.mean == "sequence":
            counted = counted / tokens.on_tokens(tokens.lengths)
        return counted.sum() / (self.length or 1)
