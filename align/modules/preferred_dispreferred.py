"""The first stage of RAHF-Dual: a good and a bad adapter on one base, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from align.activations import decoder_parts, scaled_layers
from align.activations.layers import DUAL_DEPTHS
from align.errors import ConfigError
from align.models.adapted import USUAL_STAGE, add_trained, load_bare
from align.models.adapters import adapters_active, freeze_but
from align.models.backbone import Backbone
from align.models.model_export import is_writer
from align.models.stage import base_hash, write_note
from align.records import CandidateBatch, MethodView, ResponseScores, StepTotals, TruncationPreset
from align.training.base_module import AlignModule
from align.training.optimizer import Optimizer

SIDES = ("good", "bad")


class PreferredDispreferredModule(AlignModule):
    """Fine-tunes one adapter on chosen and one on rejected responses (RAHF, arXiv:2312.15997, section 3.2, Eqs. 2-3).

    Both see the same pairs in the same order, with plain prompts. The released code trains two whole models in two
    programs; dropping a flag there trains the bad one on chosen responses. The loss is the mean over the tokens of both
    sides, and gradients are clipped together.
    """

    view: MethodView = "pairs"
    truncation: TruncationPreset = "rahf"
    learning_rates = (2e-4, 2e-4)
    usual_groups = 128

    def __init__(
        self, backbone: Backbone, *, optimizer: Optimizer = Optimizer(), truncation: TruncationPreset | None = None
    ) -> None:
        """Configure the first stage.

        Args:
            backbone: The base, frozen; `lora` null takes rank 8 on every linear layer, as much as 16 scaled.
            optimizer: AdamW and its schedule.
            truncation: Limits by name, such as a paper's; null takes the usual. `data.encoding.truncation` goes before.
        """
        super().__init__(backbone, optimizer, truncation)
        self.check_backbone(backbone)

    def check_backbone(self, backbone: Backbone) -> None:
        """Raise ConfigError where activations would be computed again: two adapters take turns."""
        if backbone.gradient_checkpointing:
            raise ConfigError(
                "backbone.gradient_checkpointing computes again in the backward pass, when only one of the adapters is "
                "active: switch it off for PreferredDispreferredModule"
            )

    def build(self) -> nn.Module:
        """Load the base and two fresh adapters; generation uses the good one."""
        model = load_bare(self.backbone, self.tokenizer)
        self.base_weights = base_hash(model)
        model = add_trained(model, SIDES, self.backbone.lora or USUAL_STAGE)
        freeze_but(model, ["good"], SIDES)
        model.train()
        return model  # type: ignore[no-any-return]

    def states_to_check(self) -> tuple[Sequence[Sequence[str]], Sequence[int]]:
        """Return the base and the usual layers: a model that the second stage cannot read is told before both."""
        return [()], scaled_layers(DUAL_DEPTHS, len(decoder_parts(self.model).blocks))

    def scores_of(self, batch: CandidateBatch, side: str, place: int) -> ResponseScores:
        """Score one response of every pair under one adapter."""
        with adapters_active(self.model, [side]):
            return self.score(batch.only(place))

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the negative log-likelihood of chosen responses under good and of rejected ones under bad."""
        losses = []
        for place, (side, other) in enumerate((SIDES, SIDES[::-1])):
            scores = self.scores_of(batch, side, place)
            losses.append(-(scores.logprobs * batch.weights).sum() / totals.response_tokens)
            self.record(f"nll/{side}", -scores.means, scores.lengths * batch.weights)
            if self.phase != "train":  # each must win on its own side, else their difference is noise
                across = self.scores_of(batch, other, place)
                self.record(f"wins/{side}", (scores.logprobs > across.logprobs).double(), batch.weights)
                self.record(f"nll_gap/{side}", scores.means - across.means, batch.weights)
        return sum(losses[1:], losses[0])

    def write_folder(self, folder: Path, *, merge: bool, config: dict[str, Any] | None) -> None:
        """Write `good` and `bad` as adapter folders, and what the second stage checks."""
        if merge:
            raise ConfigError("the second stage needs the unmerged base: export good and bad as adapters (merge false)")
        for side in SIDES:
            with adapters_active(self.model, [side]):
                super().write_folder(folder / side, merge=merge, config=config)
        if is_writer():
            write_note(folder, "PreferredDispreferredModule", self.base_weights, SIDES, None)
