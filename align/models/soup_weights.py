"""How much of each model goes into a soup."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from align.errors import ConfigError


class SoupWeights(ABC):
    """Turns the numbers a user gives into a factor for every model; what is left to 1 goes to their common start."""

    @abstractmethod
    def factors(self, weights: Sequence[float]) -> list[float]:
        """Return the factors."""


@dataclass(frozen=True)
class Simplex(SoupWeights):
    """Weights of 0 or more that add up to 1: rewarded soups (Rame et al. 2023, arXiv:2306.04488, Eq. 2)."""

    def factors(self, weights: Sequence[float]) -> list[float]:
        """Return the weights. Raises ConfigError where they are not on the simplex."""
        if any(w < 0 for w in weights) or abs(sum(weights) - 1) > 1e-6:
            raise ConfigError(
                f"simplex weights must not be negative and add up to 1, got {list(weights)} (sum {sum(weights):g}): "
                "kind Signed takes a direction, kind TaskArithmetic any numbers"
            )
        return list(weights)


@dataclass(frozen=True)
class Signed(SoupWeights):
    """The share |v_i| / sum |v| of a direction v, for models trained on sign(v_i) r_i.

    DPA (Wang et al. 2024, arXiv:2402.18571) writes sum v_i theta_i with a unit vector; its entries do not add up to 1,
    which would shrink all weights.
    """

    def factors(self, weights: Sequence[float]) -> list[float]:
        """Return the shares. Raises ConfigError for the zero vector."""
        total = sum(map(abs, weights))
        if not total:
            raise ConfigError("the weights of a soup are all 0")
        return [abs(w) / total for w in weights]


@dataclass(frozen=True)
class TaskArithmetic(SoupWeights):
    """Any numbers, as factors of the updates: theta_0 + sum w_i (theta_i - theta_0) (arXiv:2212.04089, Eq. 1)."""

    def factors(self, weights: Sequence[float]) -> list[float]:
        """Return the numbers."""
        return list(weights)
