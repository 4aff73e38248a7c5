"""Sums of list objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from align.objectives.ranking import RankingObjective
from align.records import ListScores


@dataclass(frozen=True)
class WeightedTerm:
    """One objective of a sum."""

    objective: RankingObjective
    """The loss."""
    weight: float = 1.0
    """What it is multiplied by."""


@dataclass(frozen=True)
class ListSum(RankingObjective):
    """A weighted sum of list objectives; the logs show the implicit rewards of the first."""

    terms: Sequence[WeightedTerm]
    """The objectives and their weights."""

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("terms is empty: name at least one objective")
        if len({term.objective.view for term in self.terms}) > 1:
            raise ValueError("terms must be on the same view of the data, BestOfN is on one of its own")
        object.__setattr__(self, "needs", frozenset().union(*(term.objective.needs for term in self.terms)))
        object.__setattr__(self, "view", self.terms[0].objective.view)

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the weighted sum of the losses of each list."""
        return torch.stack([t.weight * t.objective(policy, reference) for t in self.terms]).sum(0)

    def rewards(self, policy: ListScores, reference: ListScores) -> Float[Tensor, "group candidate"]:
        """Return those of the first term."""
        return self.terms[0].objective.rewards(policy, reference)

    def parts(self, policy: ListScores, reference: ListScores) -> dict[str, Float[Tensor, " group"]]:
        """Return each term, weighted, by its place and class."""
        named = {f"{n}_{type(term.objective).__name__.lower()}": term for n, term in enumerate(self.terms, 1)}
        return {name: t.weight * t.objective(policy, reference) for name, t in named.items()}
