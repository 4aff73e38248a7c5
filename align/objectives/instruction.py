"""Contrastive instruction tuning: a response is likely under the instruction it fits, and less so under the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ContrastiveInstruction:
    """Contrastive instruction tuning (Zhang et al. 2023, HIR, arXiv:2302.05206; RAHF's stage 1, Eq. 1).

    A response is likely under the instruction it fits and less likely under the other. The released code of RAHF takes
    the contrast without the next-token shift, applies one label tensor to prompts of different lengths and averages
    over padding; none of that is kept. Its paper's second version sums log-probabilities and smooths nothing.
    """

    supervised_weight: float = 1.0
    """Of the likelihood under the instruction that fits; RAHF's first version leaves the term out (0)."""
    contrast_weight: float = 1.0
    """Of the contrast."""
    contrast_smoothing: float = 0.2
    """Share of the contrast's mass on the wrong instruction; the margin then has its optimum at ln((1 - s) / s)."""
    likelihood_smoothing: float = 0.0
    """Share of the likelihood's mass spread over the vocabulary. HIR smooths both by 0.2; over whole responses that
    puts a fifth of the mass on noise, and sampling at temperature 1 breaks."""
    logprob: Literal["mean", "sum"] = "mean"
    """What the contrast compares: log-probability per token, or of the whole response."""
    kl_weight: float = 0.0
    """Of the divergence from the reference to the policy, per token, under both instructions."""
    entropy_weight: float = 0.0
    """Of the policy's entropy per token under the instruction that fits, which is raised."""

    def __post_init__(self) -> None:
        for name in ("contrast_smoothing", "likelihood_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("supervised_weight", "contrast_weight", "kl_weight", "entropy_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def margin(
        self,
        match: Float[Tensor, " candidate"],
        mismatch: Float[Tensor, " candidate"],
        lengths: Float[Tensor, " candidate"],
    ) -> Float[Tensor, " candidate"]:
        """Return by how much the fitting instruction makes a response likelier, from summed log-probabilities."""
        gap = match - mismatch
        return gap / lengths if self.logprob == "mean" else gap

    def __call__(self, margin: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        """Return the contrast of each response, unweighted: `softplus(-margin) + smoothing * margin`."""
        return F.softplus(-margin) + self.contrast_smoothing * margin

    def likelihood(
        self, logprobs: Float[Tensor, " token"], vocabulary_means: Float[Tensor, " token"] | None
    ) -> Float[Tensor, " token"]:
        """Return the smoothed negative log-likelihood of each token, unweighted."""
        if vocabulary_means is None:
            return -logprobs
        share = self.likelihood_smoothing
        return -(1 - share) * logprobs - share * vocabulary_means

    @property
    def needs_distributions(self) -> bool:
        """Tell whether whole distributions are needed beside the log-probabilities of the tokens."""
        return self.likelihood_smoothing > 0 or self.kl_weight > 0 or self.entropy_weight > 0
