"""Direct preference optimisation: pairwise objectives on the policy's log-ratio to a reference."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.reference import Reference
from align.modules.anchoring import build_reference, prepare_reference, reference_scores
from align.modules.base import AlignModule
from align.modules.optimizer import Optimizer
from align.objectives.pairwise import DPO, PairObjective
from align.records import CandidateBatch, PairScores, Preset, StepTotals


class DPOModule(AlignModule):
    """Trains a policy on preference pairs with any pairwise objective."""

    truncation: ClassVar[Preset] = "dpo"
    learning_rates = (5e-7, 1e-5)
    reference_model: nn.Module | None

    def __init__(
        self,
        backbone: Backbone,
        objective: PairObjective = DPO(),
        *,
        reference: Reference | None = None,
        nll_weight: float = 0.0,
        optimizer: Optimizer = Optimizer(),
    ) -> None:
        """Configure preference optimisation.

        Args:
            backbone: The policy.
            objective: The loss on chosen and rejected log-probabilities.
            reference: Where reference log-probabilities come from; null takes the policy's start (its base with
                adapters off, the adapter it came with, or a frozen copy).
            nll_weight: Weight of the chosen response's negative log-likelihood per token (Pang et al. 2024,
                arXiv:2404.19733, Eq. 1; averaged over responses, not over the tokens of a batch).
            optimizer: AdamW and its schedule.
        """
        super().__init__(backbone, optimizer)
        if nll_weight < 0:
            raise ConfigError(f"nll_weight must not be negative, got {nll_weight}")
        self.objective, self.reference, self.nll_weight = objective, reference, nll_weight
        self.view = objective.view

    def build(self) -> nn.Module:
        """Load the policy and what its reference needs."""
        policy = super().build()
        build_reference(self, policy, needed="reference" in self.objective.needs)
        return policy

    def on_fit_start(self) -> None:
        """Let the reference see all batches, before the first step."""
        prepare_reference(self)

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the objective, plus the likelihood of the chosen responses, over the step's pairs."""
        policy = PairScores.of(self.score(batch), batch)
        reference = PairScores.of(reference_scores(self, batch), batch)
        losses = self.objective(policy, reference)
        if self.nll_weight:
            nll = -policy.chosen / policy.chosen_lengths
            self.record("loss/nll", nll, batch.weights)
            losses = losses + self.nll_weight * nll
        self._record(batch, policy, reference)
        return (losses * batch.weights).sum() / totals.weight

    def _record(self, batch: CandidateBatch, policy: PairScores, reference: PairScores) -> None:
        rewards = self.objective.rewards(policy, reference).detach()
        chosen, rejected = rewards[:, 0], rewards[:, 1]
        for name, values in {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).double(),
            "logps/chosen": policy.chosen,
            "logps/rejected": policy.rejected,
            "kl": policy.chosen - reference.chosen,
            "length/chosen": policy.chosen_lengths,
            "length/rejected": policy.rejected_lengths,
        }.items():
            self.record(name, values, batch.weights)
