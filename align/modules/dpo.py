"""Preference optimisation of a policy: pairwise and pointwise objectives, with a reference or without."""

from __future__ import annotations

from torch import Tensor, nn

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references import Reference
from align.objectives.optimal_transport import TransportObjective
from align.objectives.pairwise import DPO, PairObjective
from align.objectives.pointwise import PointObjective
from align.objectives.weighting import WPO
from align.records import CandidateBatch, ResponseScores, Step, StepTotals, TruncationPreset
from align.scoring import TokenStates, read_tokens, sum_tokens, token_states
from align.scoring.reductions import Reduction
from align.training.optimizer import Optimizer
from align.training.pairwise_losses import PairwiseLosses
from align.training.pointwise_inputs import PointwiseInputs
from align.training.pointwise_losses import PointwiseLosses
from align.training.preference_losses import PreferenceLosses
from align.training.reference_policy import ReferencedModule


class DPOModule(ReferencedModule):
    """Trains a policy with any objective on preference pairs, or on single labelled or scored responses."""

    truncation: TruncationPreset = "usual"
    learning_rates = (5e-7, 1e-5)

    def __init__(
        self,
        backbone: Backbone,
        objective: PairObjective | PointObjective = DPO(),
        *,
        reference: Reference | None = None,
        attribute: str | None = None,
        reduction: Reduction | None = None,
        weighting: WPO | None = None,
        nll_weight: float = 0.0,
        optimizer: Optimizer = Optimizer(),
    ) -> None:
        """Configure preference optimisation.

        Args:
            backbone: The policy.
            objective: The loss on log-probabilities of pairs, or of single responses.
            reference: Where reference log-probabilities come from; null takes the policy's start (its base with
                adapters off, the adapter it came with, or a frozen copy), or none where the objective needs none.
            attribute: Label that a loss on single responses reads; null takes the only one.
            reduction: How token log-probabilities of policy and reference are added up; null is the plain sum.
            weighting: Weights on the objective's losses of pairs.
            nll_weight: Weight of the chosen response's negative log-likelihood per token (Pang et al. 2024,
                arXiv:2404.19733, Eq. 1; averaged over responses, not over the tokens of a batch).
            optimizer: AdamW and its schedule.
        """
        super().__init__(backbone, optimizer)
        if nll_weight < 0:
            raise ConfigError(f"nll_weight must not be negative, got {nll_weight}")
        if weighting and reduction:
            raise ConfigError("weighting is defined on plain sums over tokens: leave out either it or reduction")
        if reference is not None and "reference" not in objective.requires:
            raise ConfigError(f"{type(objective).__name__} has no reference: leave model.reference out")
        self.objective, self.reference, self.reduction = objective, reference, reduction
        self.attribute, self.weighting, self.nll_weight = attribute, weighting, nll_weight
        self.view = objective.view
        self.reads_steps = isinstance(objective, TransportObjective) or "mismatched_kl" in objective.requires
        self.losses = self._pairwise(objective) if isinstance(objective, PairObjective) else self._pointwise(objective)

    def _pairwise(self, objective: PairObjective) -> PreferenceLosses:
        if self.attribute is not None:
            raise ConfigError(
                f"attribute is for single responses, {type(objective).__name__} takes pairs: leave it out"
            )
        return PairwiseLosses(objective, weighting=self.weighting, nll_weight=self.nll_weight)

    def _pointwise(self, objective: PointObjective) -> PreferenceLosses:
        if self.nll_weight or self.weighting:
            raise ConfigError(
                f"nll_weight and weighting are for pairs, {type(objective).__name__} takes single responses"
            )
        if objective.view == "win_rates" and self.attribute is not None:  # a column of the data that holds them
            self.view = "regression"
        self.reads_others = "mismatched_kl" in objective.requires
        self.provider = PointwiseInputs(objective.requires)  # a part of the module: its values are in checkpoints
        return PointwiseLosses(objective, self.provider, attribute=self.attribute)

    def build(self) -> nn.Module:
        """Load the policy and what its reference and its objective need."""
        policy = super().build()
        reference = self.build_reference(policy, needed="reference" in self.objective.requires)
        self.losses.build(self, policy)
        if self.reduction is not None:
            reference.check_computed("weighted sums over tokens")
        return policy

    def on_fit_start(self) -> None:
        """Look at the data, check layouts, and let the reference see all batches, before the first step."""
        self.losses.check(self)
        super().on_fit_start()

    def check_labels(self, batch: CandidateBatch) -> None:
        """Let the objective look at them."""
        self.losses.check_labels(batch)

    def scored(self, model: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Return the response log-probabilities of any model, added up by this method's reduction."""
        return self._read(model, token_states(model, batch, layout=self.backbone.layout), batch)

    def begin_step(self, step: Step) -> None:
        """Compute what an objective reads of the whole step."""
        self.losses.begin_step(self, step)

    def end_step(self) -> None:
        """Forget it."""
        self.losses.end_step()

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the objective over the step's groups."""
        states = token_states(self.model, batch, layout=self.backbone.layout)
        scores = self._read(self.model, states, batch, collisions=self.losses.collisions)
        return (self.losses(self, batch, states, scores) * batch.weights).sum() / totals.weight

    def _read(
        self, model: nn.Module, states: TokenStates, batch: CandidateBatch, *, collisions: bool = False
    ) -> ResponseScores:
        tokens = read_tokens(model, states, logit_bytes=self.backbone.logit_bytes, collisions=collisions)
        return sum_tokens(tokens, batch, self.reduction)
