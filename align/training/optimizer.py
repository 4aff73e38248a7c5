"""An optimiser and a learning-rate schedule, named as in TRL."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.nn import Parameter
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from align.errors import ConfigError
from align.training.optimizer_kinds import STATES, made


def refuse_sharded(backbone: Any, optimizer: Any) -> None:
    """Raise ConfigError for what cannot be cut into shards: optimisers of bitsandbytes, starts that a base gives up."""
    if backbone.lora is not None and backbone.lora.init_lora_weights is not None:
        raise ConfigError(
            f"backbone.lora.init_lora_weights {backbone.lora.init_lora_weights} is for one device or DDP, this "
            "strategy shards the model: leave it out, or take ddp"
        )
    if not optimizer.shardable:
        raise ConfigError(
            f"optimizer.optim {optimizer.optim} is for one device or DDP, this strategy shards the model: leave it "
            "out, or take ddp"
        )


KAHAN_BETA2 = 0.99
"""Slowest decay of second moments that bfloat16 can hold: a step of 1 % is above its resolution of .4 %."""
OptimizerName = Literal["adamw", "adamw_8bit", "lion", "lion_8bit", "muon"]
Schedule = Literal["cosine", "linear", "constant", "constant_with_warmup", "cosine_with_min_lr", "inverse_sqrt"]


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019), or another, with warm-up."""

    learning_rate: float | None = None
    """Peak learning rate; null takes the objective's or method's usual one for full fine-tuning or LoRA."""
    optim: OptimizerName = "adamw"
    """`adamw`; `adamw_8bit`, `lion_8bit` (moments in 8 bits) and `lion` (Chen et al. 2023, arXiv:2302.06675) by
    bitsandbytes; `muon` (Jordan et al. 2024), torch's own, for matrices only, such as adapters, its updates scaled to
    AdamW's. Those that are not AdamW take their own decays, and Lion a rate that is named."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    adam_beta1: float = 0.9
    """Decay of the first moment."""
    adam_beta2: float = 0.999
    """Decay of the second moment."""
    adam_epsilon: float = 1e-8
    """Added to the denominator."""
    warmup_ratio: float | None = None
    """Share of all optimiser steps over which the learning rate rises from 0; null is .1, and none for `constant`."""
    warmup_steps: int | None = None
    """Optimiser steps of warm-up, in the place of a share of all."""
    lr_scheduler_type: Schedule = "cosine"
    """What the learning rate does after warm-up."""
    kahan: bool = False
    """Train 16-bit weights as they are: what rounding leaves out of an update is kept for the next (Kahan summation, by
    torch-optimi). Without it 16-bit weights are trained in float32, which takes more memory."""
    stop_after_nonfinite: int = 1
    """Steps in a row without a finite loss or gradient at which the run ends; such a step is never taken."""

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"optimizer.learning_rate must be positive and finite, got {self.learning_rate}")
        for name in ("weight_decay", "adam_epsilon"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"optimizer.{name} must not be negative, got {getattr(self, name)}")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.kahan and self.adam_beta2 > KAHAN_BETA2:
            raise ConfigError(
                f"optimizer.adam_beta2 must be at most {KAHAN_BETA2} with optimizer.kahan, got {self.adam_beta2}: its "
                "second moments have 16 bits too, and a slower decay rounds to none"
            )
        if self.stop_after_nonfinite < 1:
            raise ConfigError(f"optimizer.stop_after_nonfinite must be at least 1, got {self.stop_after_nonfinite}")
        self._check_optim()
        self._check_warmup()

    def _check_optim(self) -> None:
        if self.kahan and self.optim != "adamw":
            raise ConfigError(f"optimizer.kahan is AdamW's, optimizer.optim is {self.optim}: leave either out")
        if not self.optim.startswith("adamw"):
            for name, usual in (("adam_beta1", 0.9), ("adam_beta2", 0.999), ("adam_epsilon", 1e-8)):
                if getattr(self, name) != usual:
                    raise ConfigError(f"optimizer.{name} has no effect on optimizer.optim {self.optim}: leave it out")
        if self.optim.startswith("lion") and self.learning_rate is None:
            raise ConfigError(
                f"optimizer.optim {self.optim}: usual rates are AdamW's, and Lion takes a third to a tenth of "
                "them: set optimizer.learning_rate"
            )

    def _check_warmup(self) -> None:
        if self.warmup_ratio is not None and not 0 <= self.warmup_ratio <= 1:
            raise ConfigError(f"optimizer.warmup_ratio must lie in [0, 1], got {self.warmup_ratio}")
        if self.warmup_steps is not None and (self.warmup_steps < 0 or self.warmup_ratio is not None):
            fault = (
                "must not be negative" if self.warmup_steps < 0 else "and warmup_ratio exclude each other: set one null"
            )
            raise ConfigError(f"optimizer.warmup_steps {fault}, got {self.warmup_steps}")
        asked = self.warmup_ratio or self.warmup_steps
        if asked and self.lr_scheduler_type == "constant":
            name = "warmup_ratio" if self.warmup_ratio else "warmup_steps"
            raise ConfigError(
                f"optimizer.{name} {asked} has no effect on lr_scheduler_type constant: set "
                "constant_with_warmup, or leave it out"
            )

    @property
    def state_bytes(self) -> float:
        """Return the bytes of state for each byte of trained weights."""
        return 3.0 if self.kahan else STATES[self.optim]

    @property
    def needs_length(self) -> bool:
        """Return whether the learning rate follows from how many steps the run has."""
        steady = self.lr_scheduler_type in ("constant_with_warmup", "inverse_sqrt") and self.warmup_steps is not None
        return self.lr_scheduler_type != "constant" and not steady

    @property
    def shardable(self) -> bool:
        """Whether states can lie in shards: bitsandbytes' cannot."""
        return self.optim in ("adamw", "muon")

    def build(self, parameters: Iterable[Parameter], usual: float, steps: int, *, fused: bool) -> dict[str, Any]:
        """Return optimiser and schedule as Lightning takes them; `usual` stands in for a null learning rate."""
        trained = [p for p in parameters if p.requires_grad]
        optimizer = made(self, trained, self.learning_rate or usual, fused=fused)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.schedule(optimizer, steps), "interval": "step"},
        }

    def schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
        """Return the schedule from its first step on."""
        options = {"min_lr_rate": 0.1} if self.lr_scheduler_type == "cosine_with_min_lr" else None
        schedule: LRScheduler = get_scheduler(
            self.lr_scheduler_type,
            optimizer,
            num_warmup_steps=self.warmup(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=options,
        )
        return schedule

    def warmup(self, steps: int) -> int:
        """Return the steps of warm-up of so many; 0 says that nobody knows how many there are."""
        if self.warmup_steps is None:
            return round((0.1 if self.warmup_ratio is None else self.warmup_ratio) * steps)
        if 0 < steps <= self.warmup_steps:
            rank_zero_warn(f"optimizer.warmup_steps is {self.warmup_steps} of {steps} steps: none has the peak rate")
        return self.warmup_steps
