"""A method's module as those see it that sample from its model, read it or write it while it trains."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim.lr_scheduler import LRScheduler

from align.models.asked import ModelAsking
from align.models.backbone import Backbone
from align.models.references import Reference
from align.records import Instructions
from align.records.asking import Ask


class ScheduleSettings(Protocol):
    """An optimiser's settings."""

    def schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
        """Return the schedule of so many steps from its first one on."""


class TrainedModule(Protocol):
    """What callbacks and rounds use of a module; `align.training.base_module.AlignModule` is one."""

    model: nn.Module
    backbone: Backbone
    ask: Ask
    """What the model is asked beside what it is trained under."""
    predicted: ModelAsking
    """How the prompts are asked whose responses are predicted."""
    instructions: Instructions | None
    """Under which the data encodes every prompt, beside the plain one."""

    @property
    def optimizer(self) -> ScheduleSettings:
        """Return the settings of the optimiser."""

    @property
    def generates(self) -> bool:
        """Whether the model writes text."""

    @property
    def tokenizer(self) -> Any:
        """Return the backbone's tokenizer."""

    @property
    def asking(self) -> ModelAsking:
        """Return how the model is asked as it is."""

    @property
    def device(self) -> torch.device:
        """Return where the model is."""

    @property
    def device_mesh(self) -> DeviceMesh | None:
        """Return what the model is sharded over, if it is."""

    def evaluating(self) -> AbstractContextManager[None]:
        """Return a context in which the model is in evaluation mode."""

    def export(self, folder: str | Path, *, merge: bool = False, config: dict[str, Any] | None = None) -> None:
        """Write the model as a folder."""


class ReferencedPolicy(TrainedModule, Protocol):
    """A module with a reference policy; `align.training.reference_policy.ReferencedModule` is one."""

    reference: Reference | None

    @property
    def built_reference(self) -> Reference:
        """Return the reference once there is one."""

    def moving_parameters(self) -> list[nn.Parameter]:
        """Return the weights of a reference that follows."""


class TrainedUnder(TrainedModule, Protocol):
    """A module whose prompts are put under conditions; `align.modules.dpa.DPARSFModule` is one."""

    def train_under(self, note: dict[str, Any]) -> None:
        """Take what the records of a round ask for."""
