"""A reference that follows the policy while it is trained."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from align.errors import ConfigError
from align.models.adapter_folder import adapter_weights, add_frozen_copy
from align.models.adapters import adapter_active, evaluating, has_adapters
from align.models.backbone import Backbone
from align.models.references.reference import Reference, Result
from align.models.sharding import gathered

MOVING_ADAPTER = "moving"
"""Name of the adapter that follows the one that is trained."""


class FollowingReference(Reference):
    """The policy's start, which moves after optimiser steps: an adapter beside the one that is trained, or a model.

    It is an adapter where one base can bear both, else a second model. Checkpoints hold it.
    """

    every_n_steps: int

    def own_model(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
        """Copy the adapter, or the model where there is none. Raises ConfigError where it would stand still."""
        kind = type(self).__name__
        coarse = {p.dtype for p in policy.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
        if coarse and (told := self.rounds_away):
            raise ConfigError(
                f"model.reference {kind}: {told} of weights in {coarse.pop()} is rounded away: train float32 weights "
                f"(model.optimizer.kahan false){self.instead}"
            )
        if MOVING_ADAPTER in getattr(policy, "peft_config", {}):
            raise ConfigError(f"model.reference has two {kind} on one base, expected one that moves")
        if has_adapters(policy) and add_frozen_copy(policy, MOVING_ADAPTER):
            self.beside_adapter(policy)
            return None
        return copy.deepcopy(policy).requires_grad_(False).eval()

    @property
    @abstractmethod
    def rounds_away(self) -> str:
        """What of the moves is too small for weights of 16 bits; nothing where they are whole."""

    instead: ClassVar[str] = ""
    """What else a message of it proposes."""

    def beside_adapter(self, policy: nn.Module) -> None:
        """Prepare what else is needed of adapters, and tell what they make different."""

    @torch.no_grad()
    def run(self, policy: nn.Module, function: Callable[[nn.Module], Result]) -> Result:
        """Call with the policy under the adapter that follows, or with the second model."""
        if self.model is None:
            with evaluating(policy), adapter_active(policy, MOVING_ADAPTER):
                return function(policy)
        with gathered(self.model):
            return function(self.model)

    def check_steps(self, steps: float) -> None:
        """Raise ConfigError where the run is over before the first move."""
        if steps < self.every_n_steps:
            raise ConfigError(
                f"model.reference {type(self).__name__} would never move: every_n_steps is {self.every_n_steps} and "
                f"the run has {steps:g} optimiser steps: lower it, or leave model.reference out"
            )

    def moving(self, policy: nn.Module) -> list[nn.Parameter]:
        """Return the weights that follow one that is trained."""
        return list(self.following(policy, MOVING_ADAPTER, self.model).values())

    def following(self, policy: nn.Module, adapter: str, model: nn.Module | None) -> dict[str, nn.Parameter]:
        """Return of an adapter, or of a second model, the weights that follow one that is trained, by its name."""
        own = self.trained(policy)
        held = adapter_weights(policy, adapter) if model is None else dict(model.named_parameters())
        return {name: held[name] for name in own}

    def trained(self, policy: nn.Module) -> dict[str, nn.Parameter]:
        """Return the weights that are followed, by name."""
        own = adapter_weights(policy, "default") if self.model is None else dict(policy.named_parameters())
        return {name: weight for name, weight in own.items() if weight.requires_grad}

    @property
    def is_start(self) -> bool:
        """Whether it is the policy as the run starts: it has not moved then."""
        return True


@dataclass(frozen=True)
class MovingReference(FollowingReference):
    """The policy's start, which takes a share of the policy's weights every so many optimiser steps.

    TR-DPO (Gorbatovski et al. 2024, arXiv:2404.09656): soft updates below `mix` 1, hard ones at 1; TRL's
    `sync_ref_model` with its defaults. At every step with a small `mix` it is an exponential moving average of the
    policy. Of adapters the factors are mixed: the mix of their products, which TR-DPO's equation asks for, has a higher
    rank; at `mix` 1 there is no difference.
    """

    every_n_steps: int = 512
    """Optimiser steps from one move to the next, a step that was left out counted."""
    mix: float = 0.6
    """Share of the policy in the new reference, above 0 and at most 1: alpha."""

    instead: ClassVar[str] = ", or set mix to 1"

    def __post_init__(self) -> None:
        if self.every_n_steps < 1 or not 0 < self.mix <= 1:
            raise ConfigError(
                "model.reference MovingReference: every_n_steps must be at least 1 and mix lie in (0, 1], got "
                f"{self.every_n_steps}, {self.mix}"
            )

    @property
    def rounds_away(self) -> str:
        """A share below 1."""
        return f"mix {self.mix:g}" if self.mix < 1 else ""

    def beside_adapter(self, policy: nn.Module) -> None:
        """Warn where factors are mixed."""
        if self.mix < 1:
            warnings.warn(
                f"MovingReference: of adapters the factors are mixed at mix {self.mix:g}; the mix of their "
                "products, which TR-DPO's equation asks for, is another matrix: they agree at mix 1, and "
                "nearly where the policy moves little from one move to the next",
                stacklevel=2,
            )

    @torch.no_grad()
    def after_step(self, policy: nn.Module, step: int) -> None:
        """Take the share of the policy's weights where it is time."""
        if step % self.every_n_steps == 0:
            following = self.following(policy, MOVING_ADAPTER, self.model)
            for name, own in self.trained(policy).items():
                following[name].mul_(1 - self.mix).add_(own, alpha=self.mix)
