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
class ListSum(RankingObjective):
    """A weighted sum of list objectives; the logs show the implicit rewards of the first."""

    terms: Sequence[RankingObjective]
    """The objectives."""
    weights: Sequence[float]
    """What each is multiplied by."""

    def __post_init__(self) -> None:
        if not len(self.terms) == len(self.weights) > 0:
            raise ValueError(f"terms and weights must be of one length, got {len(self.terms)} and {len(self.weights)}")
        if any(term.view != self.terms[0].view for term in self.terms):
            raise ValueError("terms must be on the same view of the data, BestOfN is on one of its own")
        object.__setattr__(self, "requires", frozenset().union(*(term.requires for term in self.terms)))
        object.__setattr__(self, "view", self.terms[0].view)

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the weighted sum of the losses of each list."""
        return torch.stack(list(self.parts(policy, reference).values())).sum(0)

    def check_labels(self, given: ListScores) -> None:
        """Let every term look at them."""
        for term in self.terms:
            term.check_labels(given)

    def rewards(self, policy: ListScores, reference: ListScores) -> Float[Tensor, "group candidate"]:
        """Return those of the first term."""
        return self.terms[0].rewards(policy, reference)

    def parts(self, policy: ListScores, reference: ListScores) -> dict[str, Float[Tensor, " group"]]:
        """Return each term, weighted, by its place and class."""
        named = [f"{n}_{type(term).__name__.lower()}" for n, term in enumerate(self.terms, 1)]
        losses = [w * term(policy, reference) for term, w in zip(self.terms, self.weights, strict=True)]
        return dict(zip(named, losses, strict=True))
