"""PPO's advantages as TRL's former PPOTrainer computed them, on padded rows; TRL 1.16 has no PPO."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def masked_whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Values of mean 0 and variance 1 over a mask, n - 1 in the denominator."""
    count = mask.sum()
    mean = (values * mask).sum() / count
    variance = ((values - mean) ** 2 * mask).sum() / count * (count / (count - 1))
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return whitened if shift_mean else whitened + mean


def advantages_of_trl(
    divergences: Sequence[object],
    values: Sequence[object],
    *,
    end_values: object,
    scores: object,
    width: int,
    kl_coef: float,
    gamma: float,
    lam: float,
    whiten_rewards: bool,
) -> tuple[Tensor, Tensor]:
    """Advantages, whitened, and returns by row and column; the score one column behind the last token, where there is one."""
    rows = len(values)
    kl, value = torch.zeros(rows, width, dtype=torch.float64), torch.zeros(rows, width, dtype=torch.float64)
    last = torch.tensor([len(own) - 1 for own in values])  # type: ignore[arg-type]
    behind = torch.as_tensor(end_values)
    for row in range(rows):
        length = int(last[row]) + 1
        kl[row, :length], value[row, :length] = torch.as_tensor(divergences[row]), torch.as_tensor(values[row])
        if length < width:
            value[row, length] = behind[row]
    columns = torch.arange(width).repeat(rows, 1)
    padding, padding_behind = columns > last[:, None], columns > last[:, None] + 1
    rewards = -kl_coef * kl
    place = torch.where(last + 1 < width, last + 1, last)
    rewards[torch.arange(rows), place] += torch.as_tensor(scores)
    if whiten_rewards:
        rewards = masked_whiten(rewards, ~padding_behind, shift_mean=False).masked_fill(padding_behind, 0)
    found, following = [], torch.zeros(rows, dtype=torch.float64)
    for t in reversed(range(width)):
        next_values = value[:, t + 1] if t < width - 1 else 0.0
        following = rewards[:, t] + gamma * next_values - value[:, t] + gamma * lam * following
        found.append(following)
    advantages = torch.stack(found[::-1], 1)
    returns = advantages + value
    return masked_whiten(advantages, ~padding).masked_fill(padding, 0), returns
