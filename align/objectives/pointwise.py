"""Losses on single responses with a label each."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor

from align.objectives.base import Objective
from align.records import PointScores, ViewName


class PointContext(NamedTuple):
    """What an objective asked for by its `needs`; null where it did not."""

    mismatched_kl: Float[Tensor, ""] | None = None
    """Mean log-ratio of responses under other prompts, over all ranks, not below 0."""
    reward_shift: Float[Tensor, ""] | None = None
    """Running mean of the log-ratios seen in training."""
    values: Float[Tensor, " candidate"] | None = None
    """The value head's estimate for the prompt of each response."""
    forward_kl: Float[Tensor, " candidate"] | None = None
    """KL from reference to policy, summed over the tokens of each response, in nats."""


class PointObjective(Objective):
    """A loss on labelled responses."""

    view: ClassVar[ViewName] = "unpaired"

    @abstractmethod
    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointContext
    ) -> Float[Tensor, " candidate"]:
        """Return the loss of each response."""

    @abstractmethod
    def rewards(self, policy: PointScores, reference: PointScores) -> Float[Tensor, " candidate"]:
        """Return the implicit reward of each response, for the logs."""
