"""Supervised fine-tuning: maximum likelihood of one response per prompt."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from align.models.backbone import Backbone
from align.records import CandidateBatch, MethodView, StepTotals, TruncationPreset, ViewName
from align.scoring import score_responses
from align.training.base_module import AlignModule
from align.training.optimizer import Optimizer


class SFTModule(AlignModule):
    """Fine-tunes on the best response of each prompt; several examples share a row without seeing each other."""

    view: MethodView = "singles"
    truncation: TruncationPreset = "sft"
    learning_rates = (2e-5, 2e-4)

    def __init__(
        self,
        backbone: Backbone,
        reduction: Literal["token_mean", "sequence_sum"] = "token_mean",
        *,
        loss_on: Literal["turns", "response", "all"] = "turns",
        view: ViewName = "singles",
        optimizer: Optimizer = Optimizer(),
        truncation: TruncationPreset | None = None,
    ) -> None:
        """Configure supervised fine-tuning.

        Args:
            backbone: The model to train.
            reduction: `token_mean` divides by all scored tokens of the optimiser step; `sequence_sum` sums over each
                response and averages over responses (PRO, arXiv:2306.17492, Eq. 1).
            loss_on: `turns` scores every assistant turn of a whole dialogue (data in the layout `messages`) and the
                response of other data, `response` the last turn only, `all` the prompt's tokens too (the literal
                reading of DPA, arXiv:2402.18571).
            view: What to train on; `hindsight` makes it Chain of Hindsight (Liu et al. 2023, arXiv:2302.02676).
            optimizer: AdamW and its schedule.
            truncation: Limits by name, such as a paper's; null takes the usual. `data.encoding.truncation` goes before.
        """
        super().__init__(backbone, optimizer, truncation)
        self.reduction, self.loss_on, self.view = reduction, loss_on, view
        self.scores_turns, self.scores_prompts = loss_on == "turns", loss_on == "all"

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the negative log-likelihood of the batch over the step's tokens or responses."""
        scores = score_responses(
            self.model,
            batch,
            layout=self.backbone.layout,
            logit_bytes=self.backbone.logit_bytes,
            score_prompts=self.scores_prompts,
        )
        weights = batch.candidate_weights()
        self.record("nll", -scores.means, scores.lengths * weights)
        self.record("length", scores.lengths, weights)
        total = totals.response_tokens + (totals.prompt_tokens if self.scores_prompts else 0)
        return -(scores.logprobs * weights).sum() / (total if self.reduction == "token_mean" else totals.weight)
