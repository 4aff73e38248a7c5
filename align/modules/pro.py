"""Preference ranking optimisation, and every other method that learns from lists of responses to one prompt."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references import Reference
from align.objectives.ranking import PRO, RankingObjective
from align.objectives.ranking_metrics import ranking_metrics
from align.records import CandidateBatch, ListScores, ResponseScores, StepTotals, TruncationPreset
from align.training.objective_call import ObjectiveCall, visible
from align.training.optimizer import Optimizer
from align.training.reference_code_eos import without_longest_ends
from align.training.reference_policy import ReferencedModule


class PROModule(ReferencedModule):
    """Trains a policy on ranked or scored lists with any list objective; a prompt is computed once for all of them."""

    truncation: TruncationPreset = "usual"
    learning_rates = (5e-6, 1e-4)

    def __init__(
        self,
        backbone: Backbone,
        objective: RankingObjective = PRO(),
        *,
        ranking_source: Literal["rm", "human"] = "rm",
        reference: Reference | None = None,
        eos: Literal["always", "reference_code"] = "always",
        optimizer: Optimizer = Optimizer(),
        truncation: TruncationPreset | None = None,
    ) -> None:
        """Configure learning from lists.

        Args:
            backbone: The policy.
            objective: The loss on the log-probabilities of a list.
            ranking_source: Order lists by the rewards in the data (`rm`, as PRO's released code does even for pairs) or
                by its labels (`human`); `data.view` overrides it.
            reference: Where reference log-probabilities come from, for an objective that has one; null takes the
                policy's start.
            eos: Score the EOS of every response, or as the published code of all but a micro-batch's longest rows.
            optimizer: AdamW and its schedule; PRO's code uses 5e-6, constant, without warm-up, weight decay 0.01.
            truncation: Limits by name, such as a paper's; null takes the usual. `data.encoding.truncation` goes before.
        """
        super().__init__(backbone, optimizer, truncation)
        if reference is not None and "reference" not in objective.requires:
            raise ConfigError(f"{type(objective).__name__} has no reference: leave model.reference out")
        self.objective, self.ranking_source, self.reference, self.eos = objective, ranking_source, reference, eos
        self.call, self.view = ObjectiveCall(), objective.view
        if ranking_source == "human":
            if self.view != "lists_by_reward":
                raise ConfigError(f"ranking_source human has no effect on {type(objective).__name__}: leave it out")
            self.view = "lists_by_label"

    def build(self) -> nn.Module:
        """Load the policy and what its reference needs."""
        policy = super().build()
        self.build_reference(policy, needed="reference" in self.objective.requires)
        return policy

    def rewards(self, batch: CandidateBatch) -> Float[Tensor, " candidate"]:
        """Return the data's reward of every candidate, NaN where there is none."""
        return batch.labels()

    def check_labels(self, batch: CandidateBatch) -> None:
        """Let the objective look at the rewards."""
        zeros = torch.zeros(batch.num_candidates)
        self.objective.check_labels(ListScores.of(ResponseScores(zeros, zeros + 1), batch, self.rewards(batch)))

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the objective over the step's lists."""
        if self.eos == "reference_code":
            batch = without_longest_ends(batch, self.tokenizer.eos_token_id)
        rewards = self.rewards(batch)
        scores = self.score(batch)
        policy = ListScores.of(scores, batch, rewards)
        anchor = self.reference_beside(scores, batch)
        reference = ListScores.of(anchor, batch, rewards)
        self._record(batch, policy, reference)
        losses = self.call(self.objective, policy, visible(self.objective, reference))
        return (losses * batch.weights).sum() / totals.weight

    @torch.no_grad()
    def _record(self, batch: CandidateBatch, policy: ListScores, reference: ListScores) -> None:
        objective, most = self.objective, batch.totals.group_candidates
        metrics = ranking_metrics(policy, objective.rewards(policy, visible(objective, reference)))
        # parts may be named by places in a list, and all processes have to add up the same names
        parts = objective.parts(policy.widened(most), visible(objective, reference.widened(most)))
        metrics |= {f"loss/{name}": value for name, value in parts.items()}
        for name, values in {
            **metrics,
            "logps/chosen": policy.logprobs[:, 0],
            "length/chosen": policy.lengths[:, 0],
            "responses": policy.mask.sum(1),
        }.items():
            self.record(name, values, batch.weights)
