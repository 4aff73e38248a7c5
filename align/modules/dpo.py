"""Preference optimisation of a policy: pairwise and pointwise objectives, with a reference or without."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references import Reference
from align.objectives.optimal_transport import TransportObjective
from align.objectives.pairwise import DPO, PairObjective
from align.objectives.pointwise import PointObjective
from align.objectives.weighting import WPO
from align.records import CandidateBatch, PairScores, ResponseScores, Step, StepTotals, TruncationPreset
from align.scoring import TokenStates, read_tokens, sum_tokens, token_states
from align.scoring.reductions import Reduction
from align.training.objective_call import ObjectiveCall, visible
from align.training.optimizer import Optimizer
from align.training.pointwise_inputs import PointwiseInputs, check_data, check_reference, point_scores
from align.training.preference_metrics import pair_metrics, point_metrics
from align.training.reference_policy import ReferencedModule
from align.training.step_quantiles import StepQuantiles


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
        if not isinstance(objective, PairObjective) and (nll_weight or weighting):
            raise ConfigError(
                f"nll_weight and weighting are for pairs, {type(objective).__name__} takes single responses"
            )
        if attribute is not None and isinstance(objective, PairObjective):
            raise ConfigError(
                f"attribute is for single responses, {type(objective).__name__} takes pairs: leave it out"
            )
        if weighting and reduction:
            raise ConfigError("weighting is defined on plain sums over tokens: leave out either it or reduction")
        if weighting and isinstance(objective, TransportObjective):
            raise ConfigError(f"weighting is of pairs, {type(objective).__name__} compares quantiles: leave it out")
        if reference is not None and "reference" not in objective.needs:
            raise ConfigError(f"{type(objective).__name__} has no reference: leave model.reference out")
        self.objective, self.reference, self.reduction = objective, reference, reduction
        self.call = ObjectiveCall()
        self.attribute = attribute
        self.weighting, self.nll_weight = weighting, nll_weight
        named = objective.view == "win_rates" and attribute is not None  # a column of the data that holds them
        self.view = "regression" if named else objective.view
        self.reads_others = "mismatched_kl" in objective.needs
        self.provider, self.quantiles = PointwiseInputs(objective.needs), StepQuantiles(objective)

    def build(self) -> nn.Module:
        """Load the policy and what its reference and its objective need."""
        policy = super().build()
        reference = self.build_reference(policy, needed="reference" in self.objective.needs)
        self.provider.build(policy)
        check_reference(reference, policy, self.objective.needs, self.reduction)
        return policy

    def on_fit_start(self) -> None:
        """Look at the data, check layouts, and let the reference see all batches, before the first step."""
        if self.device_mesh is not None and "values" in self.objective.needs:
            raise ConfigError("DRO's value head is not sharded: take another trainer.strategy, such as ddp")
        check_data(self.objective, self.trainer.datamodule)  # type: ignore[attr-defined]
        super().on_fit_start()

    def scored(self, model: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Return the response log-probabilities of any model, added up by this method's reduction."""
        return self._read(model, token_states(model, batch, layout=self.backbone.layout), batch)

    def begin_step(self, step: Step) -> None:
        """Compute what an objective reads of the whole step."""
        self.provider.begin_step(self, step)
        self.quantiles.begin_step(self, step)

    def end_step(self) -> None:
        """Forget it: a validation batch stands for itself."""
        self.provider.end_step()

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the objective over the step's groups."""
        states = token_states(self.model, batch, layout=self.backbone.layout)
        scores = self._read(self.model, states, batch, collisions=self.weighting is not None)
        if isinstance(self.objective, PairObjective):
            losses = self._pair_losses(self.objective, batch, scores)
        else:
            losses = self._point_losses(self.objective, batch, scores, states)
        return (losses * batch.weights).sum() / totals.weight

    def _read(
        self, model: nn.Module, states: TokenStates, batch: CandidateBatch, *, collisions: bool = False
    ) -> ResponseScores:
        tokens = read_tokens(model, states, logit_bytes=self.backbone.logit_bytes, collisions=collisions)
        return sum_tokens(tokens, batch, self.reduction)

    def _pair_losses(
        self, objective: PairObjective, batch: CandidateBatch, scores: ResponseScores
    ) -> Float[Tensor, " group"]:
        policy = PairScores.of(scores, batch)
        anchor = self.reference_beside(scores, batch)
        reference = visible(objective, PairScores.of(anchor, batch))
        losses = self.call(objective, policy, reference, *self.quantiles.of_next())
        if self.weighting is not None:
            weights = self.weighting(scores, batch)
            self.record("weights", weights, batch.weights)
            losses = losses * weights
        if self.nll_weight:
            nll = -policy.chosen / policy.chosen_lengths
            self.record("loss/nll", nll, batch.weights)
            losses = losses + self.nll_weight * nll
        anchored = reference if "reference" in objective.needs else None
        self._record_all(batch, pair_metrics(objective.rewards(policy, reference), policy, anchored))
        return losses

    def _point_losses(
        self, objective: PointObjective, batch: CandidateBatch, scores: ResponseScores, states: TokenStates
    ) -> Float[Tensor, " candidate"]:
        policy = point_scores(batch, scores, self.attribute)
        reference = point_scores(batch, self.reference_beside(scores, batch), self.attribute)
        context = self.provider.context(self, batch, states, policy.logprobs.detach() - reference.logprobs)
        reference = visible(objective, reference)
        rewards = objective.rewards(policy, reference).detach()
        labelled = objective.view == "unpaired"
        self._record_all(batch, point_metrics(rewards, policy, context, labelled=labelled))
        return self.call(objective, policy, reference, context)

    def _record_all(self, batch: CandidateBatch, metrics: dict[str, Tensor]) -> None:
        for name, values in metrics.items():
            self.record(name, values, batch.weights)
