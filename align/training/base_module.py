"""What every method shares: the backbone, the optimiser, exact accumulation, logging, small checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError
from torch import Tensor, nn

from align.checks.checked_rows import GroupsOfBatch
from align.checks.trust import trust
from align.errors import StoreError
from align.files import atomic_folder
from align.models.adapters import evaluating, has_adapters
from align.models.asked import PLAIN, ModelAsking, asking
from align.models.backbone import Backbone
from align.models.condition_file import Form, form_of, write_condition_file
from align.models.loading import describe, load_policy, max_positions
from align.models.masters import check_precision
from align.models.model_card import model_card, settings
from align.models.model_export import export_model, is_writer
from align.models.sharding import refuse_sharded_files, shard
from align.models.tokenizer import load_tokenizer
from align.records import (
    CandidateBatch,
    Instructions,
    Labels,
    PromptFormat,
    ResponseScores,
    Step,
    TruncationPreset,
    ViewName,
)
from align.records.asking import Ask
from align.scoring import score_responses
from align.scoring.decoder import choose_layout
from align.scoring.layouts import count_positions
from align.training.checkpoint_contents import (
    Shapes,
    check_fits,
    facts_of,
    fix_epoch_counters,
    fix_last_batch,
    trained_shapes,
    versions,
)
from align.training.checkpoint_io import reason_of, write_whole
from align.training.optimizer import Optimizer, check_length, optimiser_steps
from align.training.other_callbacks import check_callbacks, check_loadable, drop_frozen, fill_frozen
from align.training.predicting import asking_of_predictions
from align.training.recording import RecordingModule
from align.training.seeding import seed_step
from align.training.self_check import check_layouts


class AlignModule(RecordingModule):
    """A method: subclasses compute the loss of a batch and record what they log."""

    view: ViewName
    """The data view the method trains on."""
    truncation: TruncationPreset
    """The limits on lengths the method takes where the data name none."""
    learning_rates: ClassVar[tuple[float, float]]
    """Usual learning rate for full fine-tuning and for LoRA."""
    instructions: Instructions | None = None
    """Under which the data encodes every prompt, beside the plain one."""
    max_response: int | None = None
    """Longest response the method reads, in tokens; null leaves it to the limits."""
    scores_turns: bool = False
    """Whether every assistant turn of a whole dialogue is scored, not the last alone."""
    reads_others: bool = False
    """Whether every response is also read under another prompt of its step."""
    usual_groups: ClassVar[int] = 64
    """Groups of an optimiser step where neither the data nor the objective name another number."""
    scores_prompts: bool = False
    """Whether the tokens of prompts are scored too."""
    generates: ClassVar[bool] = True
    """Whether the model writes text."""
    reads_states: Sequence[Sequence[str]] = ()
    """Sets of frozen adapters under which hidden states are read; an empty one is the base alone."""
    predicts_asked: ClassVar[bool] = False
    """Whether `predictions` are those under what the method puts into prompts, whatever the data encoded."""
    model: nn.Module

    def __init__(self, backbone: Backbone, optimizer: Optimizer, truncation: TruncationPreset | None = None) -> None:
        super().__init__(optimizer.stop_after_nonfinite)
        self.truncation = truncation or self.truncation
        self.backbone, self.optimizer = backbone, optimizer
        self.strict_loading = False  # names and shapes are compared in on_load_checkpoint
        self._facts: dict[str, Any] = {}
        self._trained: Shapes = {}
        self.checked = ""  # what the self-check found
        self.start_checked = False
        self.ask = Ask()  # what the model is asked beside what it is trained under, for its folder
        self.predicted = PLAIN  # how the prompts are asked whose responses are predicted
        self.labels = Labels()  # the data module fills it in before the model is built

    @cached_property
    def tokenizer(self) -> Any:
        """Return the backbone's tokenizer."""
        return load_tokenizer(self.backbone)

    @cached_property
    def max_positions(self) -> int:
        """Return the longest sequence the model takes."""
        return max_positions(self.backbone)

    def build(self) -> nn.Module:
        """Load the model to train."""
        return load_policy(self.backbone, self.tokenizer, masters=not self.optimizer.kahan)

    def configure_model(self) -> None:
        """Load the model once, inside the strategy's context, and shard it where the strategy has a device mesh."""
        if self.build_model():
            rank_zero_info(f"model {self.backbone.path}: {describe(self.model)}")
            if self.device_mesh is not None:
                shard(self.model, self.device_mesh)

    def build_model(self) -> bool:
        """Load the model unless it is there already, and tell whether it was not."""
        if hasattr(self, "model"):
            return False
        if self.attached and self.trainer.training:
            check_callbacks(self.trainer.callbacks, sharded=self.device_mesh is not None)  # type: ignore[attr-defined]
        self.model = self.build()
        if not self.backbone.check:
            trust(self.model)
        self._trained = trained_shapes(self)  # now, while they are whole
        return True

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule over the run's optimiser steps."""
        check_precision(self.model, self.backbone, self.trainer.precision, kahan=self.optimizer.kahan)
        full, lora = self.usual_rates
        steps = optimiser_steps(self.trainer)
        fused = self.trainer.precision != "16-mixed"  # its gradient scaler cannot clip for a fused optimiser
        usual = lora if has_adapters(self.model) else full
        return self.optimizer.build(self.parameters(), usual, steps, fused=fused)

    @property
    def usual_rates(self) -> tuple[float, float]:
        """Return the objective's usual learning rates where it has some of its own, else the method's."""
        return getattr(getattr(self, "objective", None), "learning_rates", None) or self.learning_rates

    @property
    def step_groups(self) -> int:
        """Return the usual number of groups in an optimiser step: the objective's where it has its own."""
        return getattr(getattr(self, "objective", None), "step_groups", None) or self.usual_groups

    def score(self, batch: CandidateBatch) -> ResponseScores:
        """Return the response log-probabilities of the model as it is."""
        return self.scored(self.model, batch)

    def scored(self, model: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Return the response log-probabilities of any model, in this backbone's layout and tiles."""
        return score_responses(model, batch, layout=self.backbone.layout, logit_bytes=self.backbone.logit_bytes)

    def positions(self, batch: CandidateBatch) -> tuple[int, int]:
        """Return how many positions the model computes for a batch, and how many of them hold a token."""
        return count_positions(batch, choose_layout(self.model, batch, self.backbone.layout))

    def setup(self, stage: str) -> None:
        """Write checkpoints whole or not at all, and remove what a killed run left behind."""
        strategy = self.trainer.strategy
        if stage == "fit":
            refuse_sharded_files(strategy)
            check_length(self.trainer, self.optimizer.lr_scheduler_type)
        write_whole(strategy, Path(self.trainer.default_root_dir) / "checkpoints")

    def on_fit_start(self) -> None:
        """Compare the model with plain forward passes, on rows of the data, before it scores any."""
        self._check(gradients=True)

    def on_train_start(self) -> None:
        """Begin the epoch that a run goes on with at its first step."""
        fix_last_batch(self.trainer)

    def on_validation_start(self) -> None:
        """Compare the model with plain forward passes, unless training did."""
        self._check()

    def on_test_start(self) -> None:
        """Compare the model with plain forward passes."""
        self._check()

    def on_predict_start(self) -> None:
        """Compare the model with plain forward passes."""
        self._check()

    def _check(self, *, gradients: bool = False) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if not self.checked and "train" in getattr(data, "groups", {}):
            self.checked = check_layouts(self, data.groups["train"], gradients=gradients)

    def on_train_batch_start(self, batch: Step | CandidateBatch, batch_idx: int) -> None:
        """Give every step a random stream of its own, the same after a resume."""
        if not self.checked:  # the data came without a data module, or in rounds
            first = batch[0] if isinstance(batch, Step) else batch
            self.checked = check_layouts(self, GroupsOfBatch(first), gradients=True)
        seed_step(self.global_rank, self.current_epoch, batch_idx)

    def predict_step(self, batch: CandidateBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return one row per candidate: group id, place in the group, and its scores."""
        with self.predicted.steering(self.model):
            columns = {name: values.tolist() for name, values in self.predictions(batch).items()}
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [{"id": group, "candidate": n, **row} for (group, n), row in zip(batch.places(), rows, strict=True)]

    def ask_predicted(self, *, views: bool) -> ModelAsking:
        """Settle how prompts are asked whose responses are predicted.

        Args:
            views: Whether the data's view puts something into prompts already.
        """
        self.predicted = asking_of_predictions(self, loaded=bool(self._facts), views=views)
        return self.predicted

    def predictions(self, batch: CandidateBatch) -> dict[str, Tensor]:
        """Return the scores of every candidate by name."""
        scores = self.score(batch)
        return {"logprob": scores.logprobs, "tokens": scores.lengths}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained parameters only, and note what they belong to."""
        if self.trainer.training:
            fix_epoch_counters(checkpoint)
        drop_frozen(checkpoint, self._trained)
        names = {"method": type(self).__name__, "backbone": self.backbone.path, "versions": versions()}
        checkpoint["align"] = {**names, "trained": self._trained, **self.facts()}
        checkpoint["finite_steps"] = self._finite.state_dict()
        check_loadable(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compare names and shapes. Raises ResumeError for a checkpoint of another model or method."""
        check_fits(type(self).__name__, self._trained, checkpoint)
        self._facts = checkpoint["align"]
        self._finite.load_state_dict(checkpoint["finite_steps"])
        fill_frozen(checkpoint, self.state_dict())

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Build the model a checkpoint was saved from and load its trained parameters, without a Trainer."""
        self._facts = checkpoint.get("align", {})
        self.build_model()
        self.on_load_checkpoint(checkpoint)
        self.load_state_dict(checkpoint["state_dict"], strict=False)

    def facts(self) -> dict[str, Any]:
        """Return what an artefact should know of its run: data fingerprint, prompt format, seed, last metrics."""
        if not self.attached:
            return self._facts
        found = {**facts_of(self.trainer), "check": self.checked}
        return {**found, "metrics": {**self._facts.get("metrics", {}), **found["metrics"]}}  # also of before a stop

    def export(self, folder: str | Path, *, merge: bool = False, config: dict[str, Any] | None = None) -> None:
        """Write the model as a folder that transformers and PEFT open, with tokenizer and card.

        Args:
            folder: Where to write.
            merge: Add LoRA adapters to the weights.
            config: The run's configuration for the card; null writes the module's own settings.

        Raises:
            StoreError: where the folder cannot be written; it is whole or absent then.
        """
        final = Path(folder)
        try:
            with atomic_folder(final, writes=is_writer()) as part:
                self.write_folder(part, merge=merge, config=config)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"model {final}: {reason_of(error, final)}") from error

    def write_folder(self, folder: Path, *, merge: bool, config: dict[str, Any] | None) -> None:
        """Write the files of the model folder; methods add what their models need beside them."""
        facts = self.facts()
        card = model_card(type(self).__name__, self.backbone.path, config or settings(self), facts)
        written = PromptFormat(*facts["prompt_format"]) if facts.get("prompt_format") else None
        export_model(self.model, self.tokenizer, folder, merge=merge, prompt_format=written, card=card)
        if is_writer():
            write_condition_file(self.form, folder, self.ask)

    @property
    def form(self) -> Form | None:
        """Return what the prompts are trained under: by the method, or by the view of its data."""
        asks = self.facts().get("asks") or self._facts.get("asks")
        return None if asks is None else form_of(asks)

    @property
    def asking(self) -> ModelAsking:
        """Return how the model is asked as it is, by everything that samples from it while it trains."""
        return asking(self.form, self.ask)

    def evaluating(self) -> AbstractContextManager[None]:
        """Return a context in which the model is in evaluation mode."""
        return evaluating(self.model)
