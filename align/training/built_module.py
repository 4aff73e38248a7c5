"""A method's model: built once, optimised, kept in checkpoints, written as a folder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError
from torch import nn

from align.checks.trust import trust
from align.errors import ConfigError, StoreError
from align.files import atomic_folder
from align.models.adapters import evaluating, has_adapters
from align.models.asked import ModelAsking, asking
from align.models.backbone import Backbone
from align.models.condition_file import Form, form_of, write_condition_file
from align.models.description import describe
from align.models.file_weights import weights_in_files
from align.models.held_short import cast_less
from align.models.loading import held_by_bitsandbytes, load_policy, max_positions
from align.models.masters import check_precision
from align.models.model_card import model_card, settings
from align.models.model_export import export_model, is_writer
from align.models.principal_start import take_start
from align.models.sharding import give_back_freed, shard, shard_rest
from align.models.tokenizer import load_tokenizer
from align.records import PromptFormat, TruncationPreset
from align.records.asking import Ask
from align.training.checkpoint_contents import (
    Shapes,
    check_fits,
    facts_of,
    fix_epoch_counters,
    trained_shapes,
    versions,
)
from align.training.checkpoint_io import reason_of
from align.training.method_settings import MethodSettings
from align.training.optimizer import Optimizer, refuse_sharded
from align.training.other_callbacks import check_callbacks, check_loadable, drop_frozen, fill_frozen
from align.training.recording import RecordingModule
from align.training.run_length import optimiser_steps
from align.training.shard_files import SHARDS, fill


class BuiltModule(MethodSettings, RecordingModule):
    """Owns the model of a run from its folder to the one that is exported."""

    model: nn.Module
    checked: str
    """What the self-check found."""

    def __init__(self, backbone: Backbone, optimizer: Optimizer, truncation: TruncationPreset | None = None) -> None:
        super().__init__(optimizer.stop_after_nonfinite)
        self.truncation = truncation or self.truncation
        self.backbone, self.optimizer = backbone, optimizer
        self.strict_loading = False  # names and shapes are compared in on_load_checkpoint
        self._facts: dict[str, Any] = {}
        self._trained: Shapes = {}
        self.checked = ""
        self.ask = Ask()  # what the model is asked beside what it is trained under, for its folder

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
            if (mesh := self.device_mesh) is not None:
                for model in self.models():
                    shard(model, mesh, self.trainer.precision, getattr(self.trainer.strategy, "prefetch", 1))
                shard_rest(self, mesh)

    def models(self) -> list[nn.Module]:
        """Return the language models that are parts of this: the one that is trained first."""
        return [self.model]

    def build_model(self) -> bool:
        """Load the model unless it is there already, and tell whether it was not."""
        if hasattr(self, "model"):
            return False
        if self.attached and self.trainer.training:
            check_callbacks(self.trainer.callbacks, sharded=self.device_mesh is not None)  # type: ignore[attr-defined]
        if self.device_mesh is not None:
            if self.backbone.compile:
                raise ConfigError("backbone.compile is for one device or DDP, this strategy shards the model")
            refuse_sharded(self.backbone, self.optimizer)
            give_back_freed(self.device_mesh)
        with weights_in_files(self.device_mesh is not None and not held_by_bitsandbytes(self.backbone)):
            self.model = self.build()
        cast_less(self.models(), self.trainer.precision if self.attached else None)
        if not self.backbone.check:
            trust(self.model)
        self._trained = trained_shapes(self)  # now, while they are whole
        return True

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule over the run's optimiser steps."""
        check_precision(self.model, self.backbone, self.trainer.precision, kahan=self.optimizer.kahan)
        full, lora = self.usual_rates
        fused = self.trainer.precision != "16-mixed"  # its gradient scaler cannot clip for a fused optimiser
        usual = lora if has_adapters(self.model) else full
        return self.optimizer.build(self.parameters(), usual, optimiser_steps(self.trainer), fused=fused)

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
        take_start(self, checkpoint["state_dict"])
        self._facts = checkpoint["align"]
        self._finite.load_state_dict(checkpoint["finite_steps"])
        fill_frozen(checkpoint, self.state_dict())

    def restore(self, checkpoint: dict[str, Any], path: Path = Path()) -> None:
        """Build the model a checkpoint was saved from and load its trained parameters, without a Trainer.

        Those in shards beside its file are read into their places, so that nothing is there twice.
        """
        self._facts = checkpoint.get("align", {})
        self.build_model()
        self.on_load_checkpoint(checkpoint)
        if shards := checkpoint.get(SHARDS):
            own = {name: values for name, values in self.state_dict().items() if name in checkpoint["align"]["trained"]}
            fill({"state_dict": own}, path.parent / shards["folder"])
        else:
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
