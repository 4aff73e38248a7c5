"""Losses on ranked lists of responses."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from align.objectives.base import Need, Objective
from align.records import ListScores, ViewName


class RankingObjective(Objective):
    """A loss on candidate groups: ranked lists, or sets with scores."""

    view: ClassVar[ViewName] = "lists"
    needs: ClassVar[frozenset[Need]] = frozenset()

    @abstractmethod
    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the loss of each group."""

    @abstractmethod
    def rewards(self, policy: ListScores, reference: ListScores) -> Float[Tensor, "group candidate"]:
        """Return the implicit rewards by which the policy ranks the candidates, for the logs."""
