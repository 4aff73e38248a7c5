"""Advantages of samples from their rewards alone: against the other samples of the prompt, or of the round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from align.errors import ConfigError

EPSILON = 1e-4
"""Added to deviations, as TRL does."""


@dataclass(frozen=True)
class GroupAdvantage:
    """The reward of a sample against those of its group, divided by a deviation or not.

    GRPO (Shao et al. 2024, arXiv:2402.03300, Eq. 3) takes the mean and the group's deviation; Dr. GRPO (Liu et al.
    2025, arXiv:2503.20783) no deviation; RLOO (Ahmadian et al. 2024, arXiv:2402.14740, Eq. 3) the mean of the others;
    REINFORCE++ (Hu 2025, arXiv:2501.03262) the mean and the deviation of all advantages of the round. Deviations are
    those of a sample, n - 1 in the denominator.
    """

    baseline: Literal["mean", "leave_one_out", "none"] = "mean"
    """What is subtracted: the mean reward of the group, that of its other samples, or nothing."""
    scale: Literal["group", "batch", "advantages", "none"] = "group"
    """What it is divided by: the deviation of the group's rewards, that of all rewards of the round, or, after their
    mean is subtracted, that of all advantages of the round."""

    def __post_init__(self) -> None:
        if self.baseline == "none" and self.scale in ("group", "batch"):
            raise ConfigError(
                f"advantage: baseline none with scale {self.scale} would leave all rewards of one sign: take scale "
                "advantages, which subtracts the mean of the round"
            )

    def __call__(self, rewards: Float[NDArray[np.float64], " sample"], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the advantage of every sample of a round; a group stands in a run of its size.

        A sample alone in its group has advantage 0 under a baseline: there is nothing to compare it with.
        """
        owner = np.repeat(np.arange(len(sizes)), sizes)
        sums, counts = np.bincount(owner, rewards, len(sizes)), sizes[owner]
        means = (sums / np.maximum(sizes, 1))[owner]
        if self.baseline == "mean":
            found = rewards - means
        elif self.baseline == "leave_one_out":
            others = (sums[owner] - rewards) / np.maximum(counts - 1, 1)
            found = np.where(counts > 1, rewards - others, 0.0)
        else:
            found = rewards.copy()
        if self.scale == "group":
            squares = np.bincount(owner, (rewards - means) ** 2, len(sizes))
            deviations = np.sqrt(squares / np.maximum(sizes - 1, 1))
            return np.asarray(found / (deviations[owner] + EPSILON))
        if self.scale == "batch":
            return np.asarray(found / (_deviation(rewards) + EPSILON))
        if self.scale == "advantages":
            return np.asarray((found - found.mean()) / (_deviation(found) + EPSILON))
        return found


def _deviation(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
