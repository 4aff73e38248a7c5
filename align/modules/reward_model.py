"""The reward model: one scalar per response, learnt from rankings."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.models.backbone import Backbone
from align.models.loading import load_reward_model
from align.models.tokenizer import choose_pad_token
from align.modules.base import AlignModule
from align.modules.optimizer import Optimizer
from align.objectives.reward import BradleyTerry, RankedRewards, RewardObjective
from align.records import CandidateBatch, Preset, StepTotals, ViewName
from align.scoring import last_hidden
from align.scoring.backbone import unwrapped


class RewardModel(AlignModule):
    """Trains a scalar head on the last token of each response; pairs and ranked lists alike."""

    view: ViewName = "lists"
    truncation: ClassVar[Preset] = "rm"
    learning_rates = (1e-5, 1e-4)
    generates = False

    def __init__(
        self,
        backbone: Backbone,
        objective: RewardObjective = BradleyTerry(),
        *,
        optimizer: Optimizer = Optimizer(),
    ) -> None:
        """Configure a reward model.

        Args:
            backbone: Any causal language model, or a reward model to train on.
            objective: The loss on the rewards of a group.
            optimizer: AdamW and its schedule.
        """
        super().__init__(backbone, optimizer)
        self.objective = objective

    def build(self) -> nn.Module:
        """Load the backbone with a scalar head; padding is never a token that ends a response."""
        return load_reward_model(self.backbone, self.tokenizer, ["reward"], choose_pad_token(self.tokenizer))

    def rewards(self, batch: CandidateBatch) -> Float[Tensor, " candidate"]:
        """Return the reward of every candidate, read at its last token."""
        hidden = last_hidden(self.model, batch, layout=self.backbone.layout)
        scores: Tensor = unwrapped(self.model).score(hidden)
        return scores[:, 0] if scores.dtype == torch.float64 else scores[:, 0].float()

    def predictions(self, batch: CandidateBatch) -> dict[str, Tensor]:
        """Return the reward of every candidate."""
        return {"reward": self.rewards(batch)}

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the objective over the step's groups."""
        rewards = self.rewards(batch)
        ranked = self._ranked(batch, rewards)
        self._record(batch, ranked)
        return (self.objective(ranked) * batch.weights).sum() / totals.weight

    def _ranked(self, batch: CandidateBatch, rewards: Float[Tensor, " candidate"]) -> RankedRewards:
        graded = batch.scores[:, 0] if batch.scores.shape[1] else torch.full_like(rewards, torch.nan)
        mask = batch.mask(rewards.device)
        return RankedRewards(batch.matrix(rewards), batch.matrix(batch.ranks), mask, batch.matrix(graded))

    def _record(self, batch: CandidateBatch, ranked: RankedRewards) -> None:
        r = ranked.rewards.detach()
        ordered = ranked.ordered()
        pairs = ordered.sum((1, 2))
        differences = (r[:, :, None] - r[:, None, :]).where(ordered, 0)
        self.record("accuracy", ((differences > 0) & ordered).sum((1, 2)) / pairs, batch.weights)
        self.record("margin", differences.sum((1, 2)) / pairs, batch.weights)
        best = (ranked.ranks == 0) & ranked.mask
        self.record("rewards/chosen", r[best])
        self.record("rewards/rejected", r[~best & ranked.mask])
