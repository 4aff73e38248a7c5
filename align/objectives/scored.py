"""Losses on single responses with a graded score each."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from align.errors import DataError
from align.objectives.objective import holds
from align.objectives.pointwise import PointObjective, PointwiseContext, RatioPointObjective
from align.records import PointScores


class WeightedLikelihood(PointObjective):
    """Likelihood of each response, summed over its tokens, weighted by its score (Hu et al. 2023, arXiv:2308.12050)."""

    view = "regression"
    requires = frozenset()
    learning_rates = (2e-5, 2e-4)  # those of SFTModule: it is fine-tuning

    @abstractmethod
    def weights(self, labels: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        """Return the weight of each response."""

    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return the weighted negative log-likelihood of each response, in nats."""
        return -self.weights(policy.labels) * policy.logprobs

    def rewards(self, policy: PointScores, reference: PointScores) -> Float[Tensor, " candidate"]:
        """Return the log-probabilities."""
        return policy.logprobs


@dataclass(frozen=True)
class FilteredLikelihood(WeightedLikelihood):
    """Likelihood of the responses that score above a threshold ("filtered MLE" of Hu et al. 2023, arXiv:2308.12050).

    The others count in the mean with a loss of 0, so a step's size follows the share that passes.
    """

    threshold: float
    """Responses must score more than this."""

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            raise ValueError("threshold must be a number, got nan")

    def weights(self, labels: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        """Return 1 above the threshold, else 0."""
        return (labels > self.threshold).to(labels.dtype)


@dataclass(frozen=True)
class RewardWeighted(WeightedLikelihood):
    """Reward-weighted regression, weights exp((score - baseline) / beta) (Hu et al. 2023, arXiv:2308.12050).

    The paper divides by the sum of the weights of a batch, which makes the loss depend on the batch. Here a fixed
    baseline sets the scale, so that accumulation and several devices change nothing; weights are cut at a maximum, as
    in advantage-weighted regression (Peng et al. 2019, arXiv:1910.00177).
    """

    beta: float = 1.0
    """Temperature, in units of the score; positive."""
    baseline: float = 0.0
    """Score that gets weight 1, such as the mean of the data."""
    max_weight: float = 20.0
    """Largest weight; positive."""

    def __post_init__(self) -> None:
        for name in ("beta", "max_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def weights(self, labels: Float[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        """Return the exponential weights."""
        return ((labels - self.baseline) / self.beta).clamp(max=math.log(self.max_weight)).exp()


@dataclass(frozen=True)
class SPPO(RatioPointObjective):
    """Self-play preference optimisation with graded win rates (Wu et al. 2024, arXiv:2405.00675, Eq. 4.7).

    The label is a response's win rate: the mean of P(y beats y') over the responses of its prompt, 1/2 against itself
    included. The reference is the policy of the previous round. The mean over rows is the 1/2 by which the released
    code averages the two squares of a pair; TRL adds them (`align.objectives.pairwise_absolute.SPPOHard`).
    """

    view = "win_rates"

    beta: float = 0.001
    """1 / eta of the paper; positive."""

    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return the squared distance of each log-ratio to its target."""
        self.check_labels(policy)
        return (policy.logprobs - reference.logprobs - (policy.labels - 0.5) / self.beta) ** 2

    def check_labels(self, given: PointScores) -> None:
        """Raise DataError for labels that are no win rates."""
        if not holds((given.labels >= 0) & (given.labels <= 1)):
            low, high = given.labels.min().item(), given.labels.max().item()
            raise DataError(
                f"labels must be win rates in [0, 1], got values from {low:g} to {high:g}: --data.view WinRateRows "
                "--data.view.order always makes them of the order of the data's responses"
            )


@dataclass(frozen=True)
class DRO(RatioPointObjective):
    """Direct reward optimisation with a value head (Richemond et al. 2024, arXiv:2405.19107, DRO-V).

    Policy and value are fitted jointly to (score - value - beta * log-ratio)^2 / 2; beta is the paper's tau. The value
    is linear in the policy's state at the prompt's last token and sends no gradient into the policy; the paper's main
    runs take a second network.
    """

    view = "regression"
    requires = frozenset({"reference", "values"})

    beta: float = 1.0
    """Strength of the pull to the reference policy, in units of the score per nat; positive."""

    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return half the squared residual of each response."""
        assert context.values is not None
        return 0.5 * (policy.labels - context.values - self.rewards(policy, reference)) ** 2
