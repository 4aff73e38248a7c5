"""Advantages as TRL 1.16 computes them inside its GRPO trainer."""

from __future__ import annotations

import torch
from torch import Tensor


def normalize_then_sum(rewards: Tensor, weights: Tensor, samples: int) -> Tensor:
    """`multi_objective_aggregation: normalize_then_sum` (trl/trainer/grpo_trainer.py): rewards of sample by function."""
    grouped = rewards.view(-1, samples, rewards.shape[1])
    own = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)
    found = (own.view(-1, rewards.shape[1]) * weights[None]).sum(1)
    return (found - torch.mean(found)) / (found.std() + 1e-4)
