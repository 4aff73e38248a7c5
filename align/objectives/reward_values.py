"""What list objectives make of the rewards of the data before they use them; all keep the order of a list."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class RewardTransform(ABC):
    """A monotone function of the rewards of a list."""

    @abstractmethod
    def __call__(
        self, rewards: Float[Tensor, "group candidate"], mask: Bool[Tensor, "group candidate"]
    ) -> Float[Tensor, "group candidate"]:
        """Return new rewards; cells outside the mask hold finite numbers."""


@dataclass(frozen=True)
class Scaled(RewardTransform):
    """Rewards times a constant."""

    scale: float = 1.0
    """The constant; positive. In PRO it divides the temperature."""

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"reward_transform.scale must be positive, got {self.scale}")

    def __call__(
        self, rewards: Float[Tensor, "group candidate"], mask: Bool[Tensor, "group candidate"]
    ) -> Float[Tensor, "group candidate"]:
        """Return the scaled rewards."""
        return self.scale * rewards


@dataclass(frozen=True)
class Sigmoid(Scaled):
    """The logistic function of the rewards, as PRO reports them in its evaluation, times a constant."""

    def __call__(
        self, rewards: Float[Tensor, "group candidate"], mask: Bool[Tensor, "group candidate"]
    ) -> Float[Tensor, "group candidate"]:
        """Return values between 0 and `scale`."""
        return self.scale * torch.sigmoid(rewards)


@dataclass(frozen=True)
class ZScore(Scaled):
    """Rewards with mean 0 and standard deviation `scale` in every list; 0 in a list of equal rewards."""

    def __call__(
        self, rewards: Float[Tensor, "group candidate"], mask: Bool[Tensor, "group candidate"]
    ) -> Float[Tensor, "group candidate"]:
        """Return the standardised rewards; the deviation is that of the list's own values (divided by n)."""
        count = mask.sum(1, keepdim=True).clamp(min=1)
        centred = rewards - (rewards * mask).sum(1, keepdim=True) / count
        deviation = ((centred**2 * mask).sum(1, keepdim=True) / count).sqrt()
        return self.scale * centred / deviation.where(deviation > 0, 1)


@dataclass(frozen=True)
class Clipped(Scaled):
    """Rewards times a constant, then cut off at both ends."""

    limit: float = 5.0
    """Largest absolute value; positive. Rewards beyond it become ties."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.limit > 0:
            raise ValueError(f"reward_transform.limit must be positive, got {self.limit}")

    def __call__(
        self, rewards: Float[Tensor, "group candidate"], mask: Bool[Tensor, "group candidate"]
    ) -> Float[Tensor, "group candidate"]:
        """Return values between -limit and limit."""
        return (self.scale * rewards).clamp(-self.limit, self.limit)
