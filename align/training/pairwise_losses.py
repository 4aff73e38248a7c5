"""Losses of objectives on pairs: weighted, with the chosen response's likelihood beside, quantiles of the step."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError, DataError
from align.objectives.optimal_transport import TransportObjective
from align.objectives.pairwise import PairObjective
from align.objectives.weighting import WPO
from align.records import FROM_REFERENCE, CandidateBatch, PairScores, ResponseScores, Step
from align.scoring import TokenStates
from align.training.objective_call import ObjectiveCall, visible
from align.training.preference_losses import PreferenceLosses
from align.training.reference_policy import ReferencedModule
from align.training.step_quantiles import StepQuantiles


class PairwiseLosses(PreferenceLosses):
    """One loss for each pair of a chosen and a rejected response."""

    def __init__(
        self, objective: PairObjective, *, weighting: WPO | None, nll_weight: float, optimism: float = 0.0
    ) -> None:
        if weighting and isinstance(objective, TransportObjective):
            raise ConfigError(f"weighting is of pairs, {type(objective).__name__} compares quantiles: leave it out")
        self.objective, self.weighting, self.nll_weight = objective, weighting, nll_weight
        self.optimism = optimism
        self.collisions = weighting is not None
        self._call, self._quantiles = ObjectiveCall(), StepQuantiles(objective)

    def check_labels(self, batch: CandidateBatch) -> None:
        """Look for prompts without a pair, which data.view DrawnPairs makes of rows that no round has answered."""
        if any(size != 2 for size in batch.group_sizes):
            raise DataError(
                f"{batch.ids[0]}: no pair to compute a loss on: prompts alone (data.view DrawnPairs) are trained on in "
                "rounds (-c configs/callbacks/online_dpo.yaml) and not validated on: set trainer.limit_val_batches to 0"
            )

    def begin_step(self, module: ReferencedModule, step: Step) -> None:
        """Compare the pairs of the whole step, where the objective is on their quantiles."""
        self._quantiles.begin_step(module, step)

    def __call__(
        self, module: ReferencedModule, batch: CandidateBatch, states: TokenStates, scores: ResponseScores
    ) -> Float[Tensor, " group"]:
        """Return the loss of each pair, and record rewards, log-probabilities and the parts of the loss."""
        objective, policy = self.objective, PairScores.of(scores, batch)
        anchor = module.reference_beside(scores, batch)
        reference = visible(objective, PairScores.of(anchor, batch))
        losses = self._call(objective, policy, reference, *self._quantiles.of_next())
        if self.weighting is not None:
            weights = self.weighting(scores, batch)
            module.record("weights", weights, batch.weights)
            losses = losses * weights
        if self.nll_weight:
            nll = -policy.chosen / policy.chosen_lengths
            module.record("loss/nll", nll, batch.weights)
            losses = losses + self.nll_weight * nll
        drawn = FROM_REFERENCE in batch.attributes or (module.attached and module.phase == "train")
        if self.optimism and drawn:  # validation, and `align check`, have pairs of the data
            optimistic = self.optimism * drawn_by_reference(policy, batch)
            module.record("loss/optimism", optimistic, batch.weights)
            losses = losses + optimistic
        anchored = reference if "reference" in objective.requires else None
        for name, values in pair_metrics(objective.rewards(policy, reference), policy, anchored).items():
            module.record(name, values, batch.weights)
        return losses


def drawn_by_reference(policy: PairScores, batch: CandidateBatch) -> Float[Tensor, " group"]:
    """Return the policy's log-probability of what the reference drew. Raises ConfigError where that is not known."""
    if FROM_REFERENCE not in batch.attributes:
        raise ConfigError(
            "XPOModule needs to know which response the reference drew: add -c configs/callbacks/xpo_rounds.yaml, or "
            "IterativeResampling with the selection ReferencePair"
        )
    drawn = batch.labels(FROM_REFERENCE).view(-1, 2)
    return policy.chosen * drawn[:, 0] + policy.rejected * drawn[:, 1]


def pair_metrics(
    rewards: Float[Tensor, "group 2"], policy: PairScores, reference: PairScores | None
) -> dict[str, Tensor]:
    """Return the metrics of each pair; without a reference there is no divergence from it."""
    chosen, rejected = rewards[:, 0], rewards[:, 1]
    metrics = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).to(chosen.dtype),
        "logps/chosen": policy.chosen,
        "logps/rejected": policy.rejected,
        "length/chosen": policy.chosen_lengths,
        "length/rejected": policy.rejected_lengths,
    }
    return metrics if reference is None else {**metrics, "kl": policy.chosen - reference.chosen}
