"""The reward model: one reward learnt from rankings, or several attributes learnt from ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.errors import ResumeError
from align.models.backbone import Backbone
from align.models.language_head import attach_language_head, without_language_head
from align.models.loading import load_reward_model
from align.models.model_export import is_writer
from align.models.reward_file import read_reward_file, write_reward_file
from align.models.tokenizer import choose_pad_token
from align.objectives.regression import Regression
from align.objectives.reward import BradleyTerry, RankedRewards, RewardObjective, order_metrics
from align.records import CandidateBatch, LabelScaling, ResponseScores, StepTotals, TruncationPreset, combine
from align.scoring.responses import last_hidden_and_scores
from align.scoring.reward_outputs import reward_head, reward_outputs
from align.training.base_module import AlignModule
from align.training.label_correlation import LabelCorrelation
from align.training.objective_call import ObjectiveCall
from align.training.optimizer import Optimizer
from align.training.recording import Phase
from align.training.reward_settings import refuse_unused


class RewardModel(AlignModule):
    """Trains a head on the last token of each response: on rankings (pairs and lists alike), or on ratings."""

    truncation: TruncationPreset = "reward"
    learning_rates = (1e-5, 1e-4)
    generates = False

    def __init__(
        self,
        backbone: Backbone,
        objective: RewardObjective | Regression = BradleyTerry(),
        *,
        attribute: str | list[str] | None = None,
        direction: dict[str, float] | None = None,
        clamp: bool = False,
        optimizer: Optimizer = Optimizer(),
        truncation: TruncationPreset | None = None,
    ) -> None:
        """Configure a reward model.

        Args:
            backbone: Any causal language model, or a reward model to train on.
            objective: The loss; it decides whether there is one output or one for each label of the data.
            attribute: Label behind margins and strengths of pairs, or several whose mean is taken (an ensemble of
                reward models); null takes the only one.
            direction: Weights by attribute, such as helpfulness 0.8, verbosity -0.6, of the predictions' `combined`.
            clamp: Show predictions of rating attributes between 0 and 100; `combined` is not affected.
            optimizer: AdamW and its schedule.
            truncation: Limits by name, such as a paper's; null takes the usual. `data.encoding.truncation` goes before.
        """
        super().__init__(backbone, optimizer, truncation)
        refuse_unused(backbone, objective, attribute, clamp=clamp)
        self.objective, self.attribute, self.direction, self.clamp = objective, attribute, direction, clamp
        self.call, self.view = ObjectiveCall(), objective.view
        self.rescaling: LabelScaling | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the model's outputs."""
        return self.rescaling.attributes if self.rescaling else ("reward",)

    def build(self) -> nn.Module:
        """Load the backbone with its head; padding is never a token that ends a response."""
        ratings = isinstance(self.objective, Regression)
        self.rescaling = self._known_rescaling() if ratings else None
        pad = choose_pad_token(self.tokenizer)
        model = load_reward_model(
            self.backbone, self.tokenizer, list(self.outputs), pad, zero_head=ratings, masters=not self.optimizer.kahan
        )
        if self.objective.lm_weight:
            attach_language_head(model, self.backbone)
        if ratings:
            self.agreement = LabelCorrelation(self.outputs)
        return model

    def _known_rescaling(self) -> LabelScaling:
        """Return what the checkpoint says, or the folder of a trained model, or what follows from the data."""
        assert isinstance(self.objective, Regression)
        if saved := self._facts.get("rescaling"):
            return LabelScaling.of_plain(saved)
        trained = read_reward_file(self.backbone.path, needed=self.labels.attributes)
        return trained or self.objective.rescaling(self.labels)

    def rewards(self, batch: CandidateBatch) -> Float[Tensor, " candidate"]:
        """Return the reward of every candidate, for a model of rankings."""
        return reward_outputs(self.model, batch, layout=self.backbone.layout)[:, 0]

    def points(self, batch: CandidateBatch) -> Float[Tensor, "candidate attribute"]:
        """Return every attribute of every candidate in points between about 0 and 100, for a model of ratings."""
        assert self.rescaling is not None
        return self.rescaling.points_of(reward_outputs(self.model, batch, layout=self.backbone.layout))

    def predictions(self, batch: CandidateBatch) -> dict[str, Tensor]:
        """Return the outputs of every candidate by name, and the reward in `direction`."""
        values = self.points(batch) if self.rescaling else self.rewards(batch)[:, None]
        shown = values.clamp(0, 100) if self.clamp and self.rescaling else values
        combined = {"combined": combine(values, self.outputs, self.direction)} if self.direction else {}
        return {**dict(zip(self.outputs, shown.unbind(1), strict=True)), **combined}

    def check_labels(self, batch: CandidateBatch) -> None:
        """Let the objective look at the labels behind margins and strengths."""
        if not isinstance(self.objective, Regression):
            self.objective.check_labels(self._ranked(batch, torch.zeros(batch.num_candidates), self.objective))

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the objective over the step's groups or labels."""
        if isinstance(self.objective, Regression):
            return self._regression(batch, totals, self.objective)
        ranked = self._ranked(batch, self.rewards(batch), self.objective)
        self._record_order(batch, ranked)
        return (self.call(self.objective, ranked) * batch.weights).sum() / totals.weight

    def _regression(self, batch: CandidateBatch, totals: StepTotals, objective: Regression) -> Tensor:
        assert self.rescaling is not None
        targets = self.rescaling.points(batch.columns(self.outputs))
        outputs, scores = self._outputs_and_scores(batch, objective)
        points = self.rescaling.points_of(outputs)
        losses, counts, weights = objective(points, targets), objective.counts(targets), batch.candidate_weights()
        self.record("loss/reg", losses / counts, counts * weights)
        self._record_errors(points, targets, weights)
        loss = (losses * weights).sum() / objective.denominator(totals)
        if scores is None:
            return loss
        self.record("loss/lm", -scores.means, scores.lengths * weights)
        language = -(scores.logprobs * weights).sum() / objective.language_tokens(totals)
        return loss + objective.lm_weight * language

    def _outputs_and_scores(
        self, batch: CandidateBatch, objective: Regression
    ) -> tuple[Float[Tensor, "candidate attribute"], ResponseScores | None]:
        """Return the outputs of the reward head, and of the vocabulary head where there is a language loss."""
        if not objective.lm_weight:
            return reward_outputs(self.model, batch, layout=self.backbone.layout), None
        last, scores = last_hidden_and_scores(
            self.model,
            batch,
            layout=self.backbone.layout,
            logit_bytes=self.backbone.logit_bytes,
            score_prompts=objective.lm_on == "all",
        )
        return reward_head(self.model, last), scores

    def _record_errors(self, points: Tensor, targets: Tensor, weights: Float[Tensor, " candidate"]) -> None:
        errors = points.detach() - targets
        for name, error in zip(self.outputs, errors.unbind(1), strict=True):
            self.record(f"mse/{name}", error.square(), weights)
            self.record(f"mae/{name}", error.abs(), weights)
        if self.phase != "train":
            self.agreement.update(points, targets, weights)

    def log_means(self, phase: Phase, means: dict[str, Tensor]) -> None:
        """Log the means, and after a validation run the correlation with each label."""
        super().log_means(phase, means)
        if phase != "train" and self.rescaling:
            for name, value in self.agreement.read().items():
                self.log(f"{phase}/{name}", value)

    def _ranked(
        self, batch: CandidateBatch, rewards: Float[Tensor, " candidate"], objective: RewardObjective
    ) -> RankedRewards:
        labels = batch.labels(self.attribute) if objective.reads_labels else torch.full_like(rewards, torch.nan)
        mask = batch.mask(rewards.device)
        return RankedRewards(batch.matrix(rewards), batch.matrix(batch.ranks), mask, batch.matrix(labels))

    def _record_order(self, batch: CandidateBatch, ranked: RankedRewards) -> None:
        for name, (values, weights) in order_metrics(ranked, batch.weights).items():
            self.record(name, values, weights)

    def facts(self) -> dict[str, Any]:
        """Return what an artefact should know of its run, with names and rescaling of the outputs."""
        meaning = {"rescaling": self.rescaling.plain()} if self.rescaling else {}
        return {**super().facts(), **meaning}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the rescaling of a checkpoint. Raises ResumeError where its outputs are others."""
        saved = checkpoint.get("align", {}).get("rescaling")
        names = tuple(saved["attributes"]) if saved else self.outputs
        if names != self.outputs:
            raise ResumeError(f"the checkpoint has outputs {', '.join(names)}, this run {', '.join(self.outputs)}")
        super().on_load_checkpoint(checkpoint)
        self.rescaling = LabelScaling.of_plain(saved) if saved else self.rescaling

    def write_folder(self, folder: Path, *, merge: bool, config: dict[str, Any] | None) -> None:
        """Write the model as a folder that transformers and PEFT open, and beside it where and how to read it."""
        with without_language_head(self.model):
            super().write_folder(folder, merge=merge, config=config)
        if is_writer():
            write_reward_file(self.rescaling, folder, self.facts().get("max_tokens"))
