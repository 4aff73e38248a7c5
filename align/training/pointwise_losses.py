"""Losses of objectives on single responses that have a label or a score."""

from __future__ import annotations

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from align.errors import ConfigError, DataError
from align.objectives.objective import Objective, holds
from align.objectives.pointwise import KTO, PointObjective, PointwiseContext
from align.records import CandidateBatch, PointScores, ResponseScores, Step
from align.scoring import TokenStates
from align.training.objective_call import ObjectiveCall, visible
from align.training.pointwise_inputs import PointwiseInputs
from align.training.preference_losses import PreferenceLosses
from align.training.reference_policy import ReferencedModule
from align.training.run_data import RunData, data_of


class PointwiseLosses(PreferenceLosses):
    """One loss for each response; what objectives ask for beside log-probabilities is in `inputs`."""

    def __init__(self, objective: PointObjective, inputs: PointwiseInputs, *, attribute: str | None) -> None:
        self.objective, self.inputs, self.attribute = objective, inputs, attribute
        self._call = ObjectiveCall()

    def build(self, module: ReferencedModule, policy: nn.Module) -> None:
        """Make the inputs, and look whether the reference can serve them."""
        self.inputs.build(policy)
        reference = module.built_reference
        if "forward_kl" in self.objective.requires:
            reference.run(policy, lambda model: None)
        if "mismatched_kl" in self.objective.requires:
            reference.check_computed("responses under other prompts")

    def check(self, module: ReferencedModule) -> None:
        """Look at rows of steps and labels."""
        check_data(self.objective, data_of(module.trainer))

    def check_labels(self, batch: CandidateBatch) -> None:
        """Look at them as the objective will see them."""
        zeros = torch.zeros(batch.num_candidates)
        self.objective.check_labels(point_scores(batch, ResponseScores(zeros, zeros + 1), self.attribute))

    def begin_step(self, module: ReferencedModule, step: Step) -> None:
        """Compute the inputs that are of the whole step."""
        self.inputs.begin_step(module, step)

    def end_step(self) -> None:
        """Forget them."""
        self.inputs.end_step()

    def __call__(
        self, module: ReferencedModule, batch: CandidateBatch, states: TokenStates, scores: ResponseScores
    ) -> Float[Tensor, " candidate"]:
        """Return the loss of each response, and record rewards, log-probabilities and inputs."""
        objective, policy = self.objective, point_scores(batch, scores, self.attribute)
        reference = point_scores(batch, module.reference_beside(scores, batch), self.attribute)
        context = self.inputs.context(module, batch, states, policy.logprobs.detach() - reference.logprobs)
        reference = visible(objective, reference)
        rewards = objective.rewards(policy, reference).detach()
        for name, values in point_metrics(rewards, policy, context, labelled=objective.view == "unpaired").items():
            module.record(name, values, batch.weights)
        return self._call(objective, policy, reference, context)


def point_scores(batch: CandidateBatch, scores: ResponseScores, attribute: str | None = None) -> PointScores:
    """Put scores and the labels of the data together. Raises DataError where a label is missing."""
    labels = batch.labels(attribute)
    if not holds(~labels.isnan()):
        raise DataError(f"a pointwise objective needs a label for every response, some of {batch.ids[:3]} have none")
    return PointScores.of(scores, batch, labels)


def point_metrics(
    rewards: Float[Tensor, " candidate"], policy: PointScores, context: PointwiseContext, *, labelled: bool
) -> dict[str, Tensor]:
    """Return the metrics of each response, NaN where one does not apply.

    `labelled` says that labels are 1 (chosen) and 0 (rejected).
    """
    values = {"rewards": rewards, "logps": policy.logprobs, "length": policy.lengths.to(rewards.dtype)}
    metrics = dict(values)
    if labelled:
        sides = {"chosen": policy.labels == 1, "rejected": policy.labels == 0}
        metrics = {f"{n}/{side}": v.where(own, torch.nan) for n, v in values.items() for side, own in sides.items()}
    names = {"kl": context.mismatched_kl, "reward_shift": context.reward_shift, "values": context.values}
    extra = {**names, "forward_kl": context.forward_kl}
    return metrics | {name: value.expand_as(rewards) for name, value in extra.items() if value is not None}


def check_data(objective: Objective, data: RunData | None) -> None:
    """Look at a data module before the first step: rows of steps, balance of labels against their weights."""
    if "mismatched_kl" not in objective.requires or data is None:
        return
    streamed = [range(data.step_groups)] if data.streaming else None  # its last step has two or more
    places = {"the first epoch": streamed or data.train_dataloader().sampler.batches()}
    if "val" in data.groups:
        places["the validation split"] = [range(len(data.groups["val"]))]
    for place, steps in places.items():
        if min(map(len, steps)) < 2:
            raise ConfigError(
                f"KTO needs at least 2 rows in every step, and one of {place} holds 1: set data.batching.groups to a "
                "number that leaves no single row, or change data.splits"
            )
    if isinstance(objective, KTO):
        table = data.groups["train"]
        desirable = sum(w for w, row in zip(table.weights, table.table["scores"], strict=True) if row[0][0] == 1)
        undesirable = sum(table.weights) - desirable
        share = objective.desirable_weight * desirable / max(objective.undesirable_weight * undesirable, 1e-9)
        if not 1 <= share <= 4 / 3:
            rank_zero_warn(
                f"KTO: desirable_weight * n_desirable / (undesirable_weight * n_undesirable) is {share:.3g} "
                f"({desirable:g} desirable rows, {undesirable:g} undesirable), the paper advises 1 to 1.33 (Eq. 8)"
            )
