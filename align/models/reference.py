"""Reference policies: where the log-probabilities come from that a policy is compared with (design decision 6)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from align.errors import ConfigError
from align.models.adapter_folder import REFERENCE_ADAPTER, STARTS_TRAINED
from align.models.adapters import adapter_active, adapters_off, evaluating, has_adapters
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.records import CandidateBatch, ResponseScores

Scorer = Callable[[nn.Module, CandidateBatch], ResponseScores]
Result = TypeVar("Result")


class Reference:
    """Scores a batch under the reference policy, without gradients and without dropout."""

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
        """Return a model to keep beside the policy, if this kind needs one. Called before anything is trained."""
        return None

    def prepare(
        self,
        policy: nn.Module,
        own: nn.Module | None,
        batches: Iterable[CandidateBatch],
        scorer: Scorer,
        *,
        moved: bool,
    ) -> None:
        """See all training and validation batches before the first step; `moved` says the policy was trained."""

    def score(self, policy: nn.Module, own: nn.Module | None, batch: CandidateBatch, scorer: Scorer) -> ResponseScores:
        """Return the reference's scores; `own` is what `build` returned."""
        return self.run(policy, own, lambda model: scorer(model, batch))

    def run(self, policy: nn.Module, own: nn.Module | None, function: Callable[[nn.Module], Result]) -> Result:
        """Call a function with the reference's model, without gradients and dropout.

        Raises ConfigError for a kind that is not one model.
        """
        raise ConfigError(
            f"reference {type(self).__name__} is not a model that can score anything but the data as it is, which this "
            "method needs: use BaseWithoutAdapters (with backbone.lora), NamedAdapter or FrozenCopy"
        )

    @property
    def precomputed(self) -> bool:
        """Whether values were computed before training: plain sums, of the data's own prompts and responses."""
        return False

    @property
    def is_start(self) -> bool:
        """Whether it is the policy as the run starts, so that both score alike at the first step."""
        return False


@dataclass(frozen=True)
class BaseWithoutAdapters(Reference):
    """The policy's frozen base, its adapters switched off: no memory, one more forward pass per step."""

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
        """Check that there are adapters and that switching them off gives the start of the run."""
        if not has_adapters(policy):
            raise ConfigError(
                "reference BaseWithoutAdapters needs backbone.lora: without adapters use FrozenCopy or Cached"
            )
        if getattr(policy, STARTS_TRAINED, False):
            raise ConfigError(
                "the run goes on from a trained adapter, so its base is not the reference: use NamedAdapter "
                "(FrozenCopy for an adapter with biases)"
            )
        return None

    @property
    def is_start(self) -> bool:
        """Whether it is the policy as the run starts: `build` has made sure."""
        return True

    @torch.no_grad()
    def run(self, policy: nn.Module, own: nn.Module | None, function: Callable[[nn.Module], Result]) -> Result:
        """Call with the policy, every adapter disabled."""
        with evaluating(policy), adapters_off(policy):
            return function(policy)


@dataclass(frozen=True)
class NamedAdapter(Reference):
    """A frozen adapter on the policy's own base, by default the copy of the one the run started from."""

    name: str = REFERENCE_ADAPTER
    """Name of the adapter."""

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
        """Check that the adapter exists."""
        known = list(getattr(policy, "peft_config", {}))
        if self.name not in known:
            raise ConfigError(f"reference adapter {self.name!r} does not exist, the model has {known or 'no adapters'}")
        return None

    @property
    def is_start(self) -> bool:
        """Whether it is the copy of the adapter the run starts from."""
        return self.name == REFERENCE_ADAPTER

    @torch.no_grad()
    def run(self, policy: nn.Module, own: nn.Module | None, function: Callable[[nn.Module], Result]) -> Result:
        """Call with the policy, only this adapter active."""
        with evaluating(policy), adapter_active(policy, self.name):
            return function(policy)


@dataclass(frozen=True)
class FrozenCopy(Reference):
    """A second model: a copy of the policy as it starts, or another model folder."""

    path: str | None = None
    """Folder or hub id of another model with the same tokenizer; null copies the policy."""

    def build(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module:
        """Copy or load the model, frozen and in evaluation mode."""
        if self.path is None:
            own = copy.deepcopy(policy)
        else:
            own = load_policy(replace(backbone, path=self.path, lora=None, random_init=False), tokenizer)
        return own.requires_grad_(False).eval()

    @property
    def is_start(self) -> bool:
        """Whether it is a copy of the policy."""
        return self.path is None

    @torch.no_grad()
    def run(self, policy: nn.Module, own: nn.Module | None, function: Callable[[nn.Module], Result]) -> Result:
        """Call with the second model."""
        assert own is not None
        return function(own)


def default_reference(policy: nn.Module) -> Reference:
    """Return the kind that gives the policy's own start: its base, the adapter it came with, or a copy."""
    if REFERENCE_ADAPTER in getattr(policy, "peft_config", {}):
        return NamedAdapter()
    return FrozenCopy() if not has_adapters(policy) or getattr(policy, STARTS_TRAINED, False) else BaseWithoutAdapters()
