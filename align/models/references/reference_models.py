"""References that are a model: the policy's base, a frozen adapter on it, a second model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from align.errors import ConfigError
from align.models.adapter_folder import REFERENCE_ADAPTER, STARTS_TRAINED
from align.models.adapters import adapter_active, adapters_off, evaluating, has_adapters
from align.models.backbone import Backbone
from align.models.held_short import STAYS
from align.models.loading import load_policy
from align.models.own_parts import give
from align.models.references.reference import Reference, Result
from align.models.sharding import gathered


@dataclass(frozen=True)
class BaseWithoutAdapters(Reference):
    """The policy's frozen base, its adapters switched off: no memory, one more forward pass per step."""

    def own_model(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
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
        """Whether it is the policy as the run starts: `own_model` has made sure."""
        return True

    @torch.no_grad()
    def run(self, policy: nn.Module, function: Callable[[nn.Module], Result]) -> Result:
        """Call with the policy, every adapter disabled."""
        with evaluating(policy), adapters_off(policy):
            return function(policy)


@dataclass(frozen=True)
class NamedAdapter(Reference):
    """A frozen adapter on the policy's own base, by default the copy of the one the run started from."""

    name: str = REFERENCE_ADAPTER
    """Name of the adapter."""

    def own_model(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
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
    def run(self, policy: nn.Module, function: Callable[[nn.Module], Result]) -> Result:
        """Call with the policy, only this adapter active."""
        with evaluating(policy), adapter_active(policy, self.name):
            return function(policy)


@dataclass(frozen=True)
class FrozenCopy(Reference):
    """A second model: a copy of the policy as it starts, or another model folder."""

    path: str | None = None
    """Folder or hub id of another model with the same tokenizer; null copies the policy."""

    def own_model(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module:
        """Copy or load the model, frozen and in evaluation mode."""
        if self.path is None:
            model = copy.deepcopy(policy)
        else:
            model = load_policy(replace(backbone, path=self.path, lora=None, random_init=False), tokenizer)
        setattr(model, STAYS, type(self) is FrozenCopy)  # kinds of it take weights of the policy later
        return model.requires_grad_(False).eval()

    @property
    def is_start(self) -> bool:
        """Whether it is a copy of the policy."""
        return self.path is None

    @torch.no_grad()
    def run(self, policy: nn.Module, function: Callable[[nn.Module], Result]) -> Result:
        """Call with the second model."""
        assert self.model is not None
        with gathered(self.model):
            return function(self.model)


@dataclass(frozen=True)
class PreviousRound(FrozenCopy):
    """A second model that takes the policy's weights when a round of `IterativeResampling` begins.

    In the first round, and in a run without rounds, it is the policy as the run starts.
    """

    path: None = field(default=None, init=False)

    def follow(self, weights: Mapping[str, Tensor]) -> None:
        """Give the copy the policy's trained weights, by their names in the policy."""
        assert self.model is not None
        for name, values in weights.items():
            give(self.model.get_parameter(name), values)


def default_reference(policy: nn.Module) -> Reference:
    """Return the kind that gives the policy's own start: its base, the adapter it came with, or a copy."""
    if REFERENCE_ADAPTER in getattr(policy, "peft_config", {}):
        return NamedAdapter()
    return FrozenCopy() if not has_adapters(policy) or getattr(policy, STARTS_TRAINED, False) else BaseWithoutAdapters()
