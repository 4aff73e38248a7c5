"""Policy gradient towards the equilibrium of a preference: Nash-MD."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from align.objectives.pointwise import PointwiseContext, RatioPointObjective
from align.objectives.scored import check_win_rates
from align.records import PointScores


@dataclass(frozen=True)
class NashMD(RatioPointObjective):
    """Nash-MD's policy gradient (Munos et al. 2024, arXiv:2312.00886, section 7, Nash-MD-PG).

    The label is the chance P(y beats y') of the policy's sample y against a sample y' of the geometric mixture of
    policy and reference. The gradient is minus that of log pi(y) times P - 1/2 - beta (log pi(y) - log mu(y)), with no
    gradient through the bracket: of samples of the policy as it is, unbiased. TRL's former NashMDTrainer weighs each
    token by its own log-ratio, which leaves out what a token does to the ratios of those after it; on one token both
    are the same.
    """

    view = "win_rates"

    beta: float = 0.1
    """Strength of the pull to the reference, per nat, the paper's tau; positive."""

    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return what has the gradient; its value falls with nothing in particular."""
        self.check_labels(policy)
        ratio = policy.logprobs.detach() - reference.logprobs
        return (self.beta * ratio - (policy.labels - 0.5)) * policy.logprobs

    def check_labels(self, given: PointScores) -> None:
        """Raise DataError for labels that are no probabilities."""
        check_win_rates(given)
