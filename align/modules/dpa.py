"""Directional preference alignment: fine-tuning on responses chosen under a direction that stands in the prompt."""

from __future__ import annotations

from typing import Any, Literal

from align.models.backbone import Backbone
from align.models.condition_file import Conditions, Form
from align.modules.sft import SFTModule
from align.records import Conditioning, TruncationPreset, WeightedRating
from align.training.optimizer import Optimizer


class DPARSFModule(SFTModule):
    """Rejection-sampling fine-tuning of DPA (Wang et al. 2024, arXiv:2402.18571, Eq. 4), and SteerLM.

    The loss is that of SFT on the log-likelihood; the paper prints the likelihood itself. `IterativeResampling` with
    `conditions` makes the records, and this module says how their conditions are written; its folder keeps that.
    """

    learning_rates = (1e-5, 1e-4)

    def __init__(
        self,
        backbone: Backbone,
        conditioning: Conditioning = WeightedRating(),
        *,
        reduction: Literal["token_mean", "sequence_sum"] = "token_mean",
        loss_on: Literal["response", "all"] = "response",
        optimizer: Optimizer = Optimizer(),
        truncation: TruncationPreset | None = None,
    ) -> None:
        """Configure fine-tuning under conditions.

        Args:
            backbone: The model every round begins with, fine-tuned before.
            conditioning: How prompts ask for a direction or for ratings: `WeightedRating` or `TwoDigits`.
            reduction: `token_mean` divides by all scored tokens of the optimiser step; `sequence_sum` sums over each
                response and averages over responses.
            loss_on: Score response tokens only, or the prompt's too (the literal reading of the paper).
            optimizer: AdamW and its schedule, which runs over a round; the paper takes 1e-5, cosine, 20 warm-up steps.
            truncation: Limits by name, such as a paper's; null takes the usual. `data.encoding.truncation` goes before.
        """
        super().__init__(backbone, reduction, loss_on=loss_on, optimizer=optimizer, truncation=truncation)
        self.conditioning = conditioning
        self.asks: dict[str, Any] = {}  # what the prompts trained on ask for

    def train_under(self, asks: dict[str, Any]) -> None:
        """Note what the prompts ask for that it trains on from now on; the rounds tell."""
        self.asks = asks

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the prompts ask for."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["asks"] = self.asks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what the prompts ask for."""
        super().on_load_checkpoint(checkpoint)
        self.asks = checkpoint["asks"]

    @property
    def form(self) -> Form | None:
        """Return the conditions of the prompts trained on last; None before there were any."""
        return Conditions(self.conditioning, self.asks["asks"], self.asks["targets"]) if self.asks else None
