"""A module's reference policy: built with the policy, prepared before the first step, asked at every batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import nn

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.reference import Reference, default_reference
from align.models.reference_mixture import NoReference
from align.records import CandidateBatch, ResponseScores


class HasReference(Protocol):
    """What a module with a reference has."""

    backbone: Backbone
    model: nn.Module
    reference: Reference | None
    reference_model: nn.Module | None
    trainer: Any

    @property
    def tokenizer(self) -> Any:
        """Return the backbone's tokenizer."""

    def scored(self, model: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Score a batch with any model."""


def build_reference(module: HasReference, policy: nn.Module, *, needed: bool) -> None:
    """Choose the kind where none is given, and build what it keeps beside the policy."""
    if module.reference is None:
        module.reference = default_reference(policy) if needed else NoReference()
    module.reference_model = module.reference.build(policy, module.backbone, module.tokenizer)


def prepare_reference(module: HasReference) -> None:
    """Let the reference see all batches, before the first step."""
    assert module.reference is not None
    moved = module.trainer.ckpt_path is not None  # weights are restored before this, counters after it
    with module.trainer.precision_plugin.forward_context():
        module.reference.prepare(
            module.model, module.reference_model, _all_batches(module.trainer), module.scored, moved=moved
        )


def reference_scores(module: HasReference, batch: CandidateBatch) -> ResponseScores:
    """Return the reference's log-probabilities of a batch."""
    assert module.reference is not None
    return module.reference.score(module.model, module.reference_model, batch, module.scored)


def _all_batches(trainer: Any) -> Iterator[CandidateBatch]:
    if trainer.datamodule is None:
        raise ConfigError("reference Cached needs the data as a data module, not as loaders")
    for batch in trainer.datamodule.all_batches():
        yield trainer.strategy.batch_to_device(batch)
