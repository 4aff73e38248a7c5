"""Where the log-probabilities come from that a policy is compared with: settings until built, then with a model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import nn

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.records import CandidateBatch, ResponseScores
from align.transfer import tensor_on

Scored = Callable[[nn.Module, CandidateBatch], ResponseScores]
Result = TypeVar("Result")


class Reference:
    """Scores a batch under the reference policy, without gradients and without dropout, once it is built."""

    model: nn.Module | None = None
    """What is kept beside the policy, if this kind needs anything."""
    scored: Scored
    """Scores a batch with any model, as the policy is scored."""

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any, scored: Scored) -> Self:
        """Return this reference with what it needs to score. Called before anything is trained."""
        return self.holding(self.own_model(policy, backbone, tokenizer), scored)

    def holding(self, model: nn.Module | None, scored: Scored) -> Self:
        """Return a copy with a model and a way to score: the settings themselves serve several runs."""
        built = copy.copy(self)
        vars(built).update(model=model, scored=scored)  # kinds are frozen, and these are no settings
        return built

    def own_model(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
        """Return the model this kind keeps beside the policy, if any. Raises ConfigError where it cannot serve."""
        return None

    def prepare(self, policy: nn.Module, batches: Iterable[CandidateBatch], *, moved: bool) -> None:
        """See all training and validation batches before the first step; `moved` says the policy was trained."""

    def score(self, policy: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Return the reference's scores."""
        return self.run(policy, lambda model: self.scored(model, batch))

    def run(self, policy: nn.Module, function: Callable[[nn.Module], Result]) -> Result:
        """Call a function with the reference's model, without gradients and dropout.

        Raises ConfigError for a kind that is not one model.
        """
        raise ConfigError(
            f"reference {type(self).__name__} is not a model that can score anything but the data as it is, which this "
            "method needs: use BaseWithoutAdapters (with backbone.lora), NamedAdapter or FrozenCopy"
        )

    def check_computed(self, asked: str) -> None:
        """Raise ConfigError, naming what is asked for, where values were computed before training."""
        if self.precomputed:
            raise ConfigError(
                f"this method needs {asked}, a reference computed before training (Cached) holds plain sums of the "
                "data as it is: use BaseWithoutAdapters (with backbone.lora), NamedAdapter or FrozenCopy"
            )

    def check_steps(self, steps: float) -> None:
        """Raise ConfigError where a run of so many optimiser steps, infinite if nobody knows, leaves it no effect."""

    @property
    def models(self) -> list[nn.Module]:
        """Return the language models that are kept beside the policy, one that lies in another before that."""
        return [] if self.model is None or not hasattr(self.model, "config") else [self.model]

    def after_step(self, policy: nn.Module, step: int) -> None:
        """Move where this kind follows the policy; so many optimiser steps are done."""

    def moving(self, policy: nn.Module) -> list[nn.Parameter]:
        """Return the frozen weights that move during a run, which its checkpoints hold therefore."""
        return []

    @property
    def precomputed(self) -> bool:
        """Whether values were computed before training: plain sums, of the data's own prompts and responses."""
        return False

    @property
    def is_start(self) -> bool:
        """Whether it is the policy as the run starts, so that both score alike at the first step."""
        return False


@dataclass(frozen=True)
class NoReference(Reference):
    """Log-probability 0 for every response: what reference-free objectives, and reference-free DPO, are given."""

    def score(self, policy: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Return zeros."""
        device = batch.response_ids.device
        lengths = tensor_on(device, batch.response_lengths)
        return ResponseScores(torch.zeros(len(lengths), device=device), lengths)
