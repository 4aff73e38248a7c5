"""How the log-probabilities of a response's tokens become one number, where that is not their plain sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.records import CandidateBatch


class Reduction(ABC):
    """A weighted sum over response tokens, the same for policy and reference."""

    @abstractmethod
    def weights(self, batch: CandidateBatch) -> Float[Tensor, " response_token"]:
        """Return the weight of every response token, in the order of `batch.response_ids`, on the CPU in float64."""


@dataclass(frozen=True)
class Discounted(Reduction):
    """Token t, counted from 0, weighs gamma^t (CPL, Hejna et al. 2023, arXiv:2310.13639, Eq. 5)."""

    gamma: float = 0.99
    """Discount, in (0, 1]."""

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], got {self.gamma}")

    def weights(self, batch: CandidateBatch) -> Float[Tensor, " response_token"]:
        """Return the powers of gamma."""
        return self.gamma ** _places(batch).double()


@dataclass(frozen=True)
class Desensitized(Reduction):
    """Length-desensitised scores (LD-DPO, Liu et al. 2024, arXiv:2409.06411; TRL's `ld_alpha`).

    Tokens beyond the length of the group's shortest response weigh alpha.
    """

    alpha: float = 0.5
    """Weight of the excess, in [0, 1]; 1 is the plain sum."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha}")

    def weights(self, batch: CandidateBatch) -> Float[Tensor, " response_token"]:
        """Return 1 for the shared length, alpha beyond it. Raises ConfigError where a response stands alone."""
        if min(batch.group_sizes) < 2:
            raise ConfigError(
                "model.reduction Desensitized compares lengths inside a group, got a group of 1 response: it is for "
                "methods on pairs or lists"
            )
        lengths = torch.tensor(batch.response_lengths)
        shortest = torch.stack([part.min() for part in torch.split(lengths, list(batch.group_sizes))])
        sizes, tokens = torch.tensor(batch.group_sizes), sum(batch.response_lengths)
        of_response = shortest.repeat_interleave(sizes, output_size=len(lengths))
        shared = of_response.repeat_interleave(lengths, output_size=tokens)
        weights = torch.ones(len(shared), dtype=torch.float64)
        return weights.masked_fill(_places(batch) >= shared, self.alpha)


def _places(batch: CandidateBatch) -> Tensor:
    """Return the place of every response token in its response, from 0."""
    return torch.cat([torch.arange(n) for n in batch.response_lengths])
