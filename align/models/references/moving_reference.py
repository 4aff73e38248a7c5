"""A reference that follows the policy while it is trained."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from align.errors import ConfigError
from align.models.adapter_folder import adapter_weights, add_frozen_copy
from align.models.adapters import adapter_active, evaluating, has_adapters
from align.models.backbone import Backbone
from align.models.references.reference import Reference, Result
from align.models.sharding import gathered

MOVING_ADAPTER = "moving"
"""Name of the adapter that follows the one that is trained."""


@dataclass(frozen=True)
class MovingReference(Reference):
    """The policy's start, which takes a share of the policy's weights every so many optimiser steps.

    TR-DPO (Gorbatovski et al. 2024, arXiv:2404.09656): soft updates below `mix` 1, hard ones at 1; TRL's
    `sync_ref_model` with its defaults. At every step with a small `mix` it is an exponential moving average of the
    policy. It is an adapter beside the one that is trained where one base can bear both, else a second model. Of
    adapters the factors are mixed: the mix of their products, which TR-DPO's equation asks for, has a higher rank; at
    `mix` 1 there is no difference. Checkpoints hold it.
    """

    every_n_steps: int = 512
    """Optimiser steps from one move to the next, a step that was left out counted."""
    mix: float = 0.6
    """Share of the policy in the new reference, above 0 and at most 1: alpha."""

    def __post_init__(self) -> None:
        if self.every_n_steps < 1 or not 0 < self.mix <= 1:
            raise ConfigError(
                "model.reference MovingReference: every_n_steps must be at least 1 and mix lie in (0, 1], got "
                f"{self.every_n_steps}, {self.mix}"
            )

    def own_model(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
        """Copy the adapter, or the model where there is none. Raises ConfigError where it would stand still."""
        coarse = {p.dtype for p in policy.parameters() if p.requires_grad} & {torch.bfloat16, torch.float16}
        if coarse and self.mix < 1:
            raise ConfigError(
                f"model.reference MovingReference: mix {self.mix:g} of weights in {coarse.pop()} is rounded away: "
                "train float32 weights (model.optimizer.kahan false), or set mix to 1"
            )
        if MOVING_ADAPTER in getattr(policy, "peft_config", {}):
            raise ConfigError("model.reference has two MovingReference on one base, expected one")
        if has_adapters(policy) and add_frozen_copy(policy, MOVING_ADAPTER):
            if self.mix < 1:
                warnings.warn(
                    f"MovingReference: of adapters the factors are mixed at mix {self.mix:g}; the mix of their "
                    "products, which TR-DPO's equation asks for, is another matrix: they agree at mix 1, and "
                    "nearly where the policy moves little from one move to the next",
                    stacklevel=2,
                )
            return None
        return copy.deepcopy(policy).requires_grad_(False).eval()

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
                f"model.reference MovingReference would never move: every_n_steps is {self.every_n_steps} and the run "
                f"has {steps:g} optimiser steps: lower it, or leave model.reference out"
            )

    @torch.no_grad()
    def after_step(self, policy: nn.Module, step: int) -> None:
        """Take the share of the policy's weights where it is time."""
        if step % self.every_n_steps == 0:
            for own, following in self._pairs(policy):
                following.mul_(1 - self.mix).add_(own, alpha=self.mix)

    def moving(self, policy: nn.Module) -> list[nn.Parameter]:
        """Return the weights that follow one that is trained."""
        return [following for _, following in self._pairs(policy)]

    def _pairs(self, policy: nn.Module) -> list[tuple[Tensor, nn.Parameter]]:
        """Return each trained weight of the policy and the one that follows it."""
        if self.model is None:
            own, following = (adapter_weights(policy, name) for name in ("default", MOVING_ADAPTER))
        else:
            own, following = dict(policy.named_parameters()), dict(self.model.named_parameters())
        return [(weight, following[name]) for name, weight in own.items() if weight.requires_grad]

    @property
    def is_start(self) -> bool:
        """Whether it is the policy as the run starts: it has not moved then."""
        return True
