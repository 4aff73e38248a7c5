"""A module with a reference policy: built with the policy, prepared before the first step, asked at every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from align.errors import ConfigError
from align.models.references import NoReference, Reference, default_reference
from align.records import CandidateBatch, ResponseScores, Step
from align.training.base_module import AlignModule
from align.training.run_data import data_of
from align.training.run_length import optimiser_steps
from align.training.self_check import start_checked


class ReferencedModule(AlignModule):
    """Compares the policy with a reference; a subclass says in `build` whether it needs one."""

    reference: Reference | None
    """Null takes the usual kind when the model is built."""
    reference_model: nn.Module | None
    """What the reference keeps: a part of the module, so that it moves with it."""

    def build_reference(self, policy: nn.Module, *, needed: bool) -> Reference:
        """Choose the kind where none is given, and build what it keeps beside the policy."""
        kind = self.reference or (default_reference(policy) if needed else NoReference())
        self.reference = kind.build(policy, self.backbone, self.tokenizer, self.scored)
        self.reference_model = self.reference.model
        return self.reference

    @property
    def frozen_passes(self) -> int:
        """The reference's, where it is run at every step."""
        reference = self.built_reference
        return int(not (isinstance(reference, NoReference) or reference.precomputed))

    def frozen_beside(self) -> nn.Module | None:
        """Return what the reference keeps."""
        kept: nn.Module | None = getattr(self, "reference_model", None)
        return kept

    def models(self) -> list[nn.Module]:
        """Return the policy, and the models of the reference that have weights of their own."""
        return super().models() + (self.reference.models if self.reference else [])

    def on_fit_start(self) -> None:
        """Check layouts, and let the reference see all batches, before the first step."""
        super().on_fit_start()
        moved = self.trainer.ckpt_path is not None  # weights are restored before this, counters after it
        with self.trainer.precision_plugin.forward_context():
            self.built_reference.prepare(self.model, self._all_batches(), moved=moved)

    def on_validation_start(self) -> None:
        """Check layouts, and let the reference see the batches where no training has."""
        super().on_validation_start()
        self._prepare_evaluation(self.trainer.val_dataloaders)

    def on_test_start(self) -> None:
        """Check layouts, and let the reference see the batches."""
        super().on_test_start()
        self._prepare_evaluation(self.trainer.test_dataloaders)

    def _prepare_evaluation(self, loader: Any) -> None:
        """Let the reference see what is validated or tested by itself: the cache that a run has filled is read."""
        if self.trainer.state.fn == "fit" or not self.built_reference.precomputed:
            return
        parts = (part for batch in loader for part in (batch if isinstance(batch, Step) else (batch,)))
        moved = self.trainer.ckpt_path is not None
        with self.trainer.precision_plugin.forward_context():
            batches = map(self.trainer.strategy.batch_to_device, parts)
            self.built_reference.prepare(self.model, batches, moved=moved)

    def configure_optimizers(self) -> Any:
        """Return the optimiser, once the run is known to be long enough for a reference that follows."""
        if self.moving_parameters():
            self.built_reference.check_steps(optimiser_steps(self.trainer) or math.inf)
        return super().configure_optimizers()

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """Take the step, and let a reference that follows move before anything is saved of it."""
        super().optimizer_step(*args, **options)
        self.built_reference.after_step(self.model, self.global_step + 1)

    def moving_parameters(self) -> list[nn.Parameter]:
        """Return the weights of a reference that follows."""
        return self.built_reference.moving(self.model)

    @property
    def built_reference(self) -> Reference:
        """Return the reference once there is one."""
        assert self.reference is not None
        return self.reference

    def reference_scores(self, batch: CandidateBatch) -> ResponseScores:
        """Return the reference's log-probabilities of a batch."""
        return self.built_reference.score(self.model, batch)

    def reference_beside(self, policy: ResponseScores, batch: CandidateBatch) -> ResponseScores:
        """Return the reference's log-probabilities; at the very first batch they are compared with the policy's."""
        return start_checked(self, policy, self.reference_scores(batch))

    def lacks_for_loss(self, *, drawn_in_rounds: bool) -> str | None:
        """Return what has to be awaited before a loss can be computed: scores of the reference, too."""
        scored = "the run starts: then the reference scores all data, and keeps it on disk"
        missing = super().lacks_for_loss(drawn_in_rounds=drawn_in_rounds)
        return missing or (scored if self.built_reference.precomputed else None)

    def _all_batches(self) -> Iterator[CandidateBatch]:
        data = data_of(self.trainer)
        if data is None:
            raise ConfigError("reference Cached needs the data as a data module, not as loaders")
        for batch in data.all_batches():
            yield self.trainer.strategy.batch_to_device(batch)
