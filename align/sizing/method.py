"""What sizing reads of a method's module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor, nn

from align.models.backbone import Backbone
from align.records import CandidateBatch, StepTotals


class StateBytes(Protocol):
    """An optimiser's settings."""

    @property
    def state_bytes(self) -> float:
        """Return the bytes of state for each byte of trained weights."""

    @property
    def shardable(self) -> bool:
        """Whether they can lie in shards."""


class SizableMethod(Protocol):
    """A module that builds its model on the meta device; `align.training.base_module.AlignModule` is one."""

    backbone: Backbone
    model: nn.Module
    """Once it is built."""

    @property
    def optimizer(self) -> StateBytes:
        """Return the optimiser's settings."""

    @property
    def has_logits(self) -> bool:
        """Whether a step computes logits."""

    @property
    def generates(self) -> bool:
        """Whether the model writes text."""

    @property
    def reads_states(self) -> Sequence[Sequence[str]]:
        """Sets of frozen adapters under which hidden states are read."""

    @property
    def layers(self) -> Sequence[int]:
        """Whose states are read; none where the whole model is run."""

    @property
    def frozen_passes(self) -> int:
        """Passes over a batch that have no gradient."""

    @property
    def passes_beside(self) -> int:
        """Trained passes over a batch beside the policy's."""

    def models(self) -> Sequence[nn.Module]:
        """Return the language models that are parts of this: the one that is trained first."""

    def frozen_beside(self) -> nn.Module | None:
        """Return what is held beside the model and never trained."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield those of the model and of what is beside it."""

    def check_backbone(self, backbone: Backbone) -> None:
        """Raise ConfigError for settings of a backbone that the method cannot use."""

    def build_model(self) -> bool:
        """Build the model."""

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return a batch's part of the loss of a step."""
