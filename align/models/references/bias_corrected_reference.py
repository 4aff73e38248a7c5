"""A reference that is a moving average of the policy, corrected for how far it lags behind."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from align.errors import ConfigError
from align.models.adapter_folder import add_frozen_copy
from align.models.backbone import Backbone
from align.models.references.moving_reference import MOVING_ADAPTER, FollowingReference

START, AVERAGE = "moving_start", "moving_average"
"""Adapters beside the one that is scored with, or parts of the second model: where the run began, and the average."""


@dataclass(frozen=True)
class BiasCorrectedReference(FollowingReference):
    """BEMA (Block and Zhang 2025, arXiv:2508.00180, Algorithm 1): EMA_t + alpha_t (theta_t - theta_0).

    At every n-th optimiser step t the average takes the share beta_t = (lag + t)^-ema_power of the policy, and the
    reference is the average and alpha_t = (lag + t)^-bias_power of the way that the policy has come from its start.
    Values are those of TRL's `BEMACallback` with `update_freq` and `ref_model_update_freq` of n; its burn-in and factor
    of t are left out. Start and average are kept beside the reference, each as large as it. Of adapters the factors are
    averaged, whose products are another matrix than BEMA's of the weights.
    """

    every_n_steps: int = 400
    """Optimiser steps from one move to the next, a step that was left out counted: phi."""
    ema_power: float = 0.5
    """How soon the average takes ever less of the policy: kappa; 0 makes it the policy itself."""
    bias_power: float = 0.2
    """How soon the correction fades: eta; 0 keeps it whole."""
    lag: int = 10
    """Steps that the schedule is ahead, which makes the first moves smaller: rho."""

    def __post_init__(self) -> None:
        if self.every_n_steps < 1 or self.lag < 1 or self.ema_power < 0 or self.bias_power < 0:
            raise ConfigError(
                "model.reference BiasCorrectedReference: every_n_steps and lag must be at least 1, ema_power and "
                f"bias_power not negative, got {self.every_n_steps}, {self.lag}, {self.ema_power:g}, "
                f"{self.bias_power:g}"
            )

    @property
    def rounds_away(self) -> str:
        """What an average takes."""
        return "the share that the average takes"

    def own_model(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module | None:
        """Copy the adapter, or the model, and beside it where it starts and its average."""
        model = super().own_model(policy, backbone, tokenizer)
        if model is not None:
            parts = {name: copy.deepcopy(model) for name in (START, AVERAGE)}
            for name, part in parts.items():
                model.add_module(name, part)
        return model

    def beside_adapter(self, policy: nn.Module) -> None:
        """Add two more copies of the adapter."""
        for name in (START, AVERAGE):
            add_frozen_copy(policy, name)
        warnings.warn(
            "BiasCorrectedReference: of adapters the factors are averaged; their products are another matrix than the "
            "average of the weights",
            stacklevel=2,
        )

    @property
    def models(self) -> list[nn.Module]:
        """Return start and average, which no pass is made with, and the reference that holds them."""
        if self.model is None:
            return []
        return [*(self.model.get_submodule(name) for name in (START, AVERAGE)), self.model]

    @torch.no_grad()
    def after_step(self, policy: nn.Module, step: int) -> None:
        """Move average and reference where it is time."""
        if step % self.every_n_steps:
            return
        beta, alpha = ((self.lag + step) ** -power for power in (self.ema_power, self.bias_power))
        found, starts, averages = (self._kept(policy, name) for name in (MOVING_ADAPTER, START, AVERAGE))
        for name, own in self.trained(policy).items():
            averages[name].mul_(1 - beta).add_(own, alpha=beta)
            found[name].copy_(averages[name] + alpha * (own - starts[name]))

    def moving(self, policy: nn.Module) -> list[nn.Parameter]:
        """Return the weights of all three: adapters start at random, so that the start is kept too."""
        return [w for name in (MOVING_ADAPTER, START, AVERAGE) for w in self._kept(policy, name).values()]

    def _kept(self, policy: nn.Module, name: str) -> dict[str, nn.Parameter]:
        model = self.model if self.model is None or name == MOVING_ADAPTER else self.model.get_submodule(name)
        return self.following(policy, name, model)
