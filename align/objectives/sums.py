"""Weighted sums of objectives on the same batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from align.objectives.pairwise import PairObjective
from align.objectives.pointwise import PointObjective, PointwiseContext
from align.records import PairScores, PointScores


@dataclass(frozen=True)
class PairTerm:
    """One part of a PairSum."""

    objective: PairObjective
    """The loss."""
    weight: float = 1.0
    """Its factor."""


@dataclass(frozen=True)
class PairSum(PairObjective):
    """A weighted sum of pairwise objectives (TRL's list of `loss_type` with `loss_weights`)."""

    terms: Sequence[PairTerm]
    """The losses and their factors; the first one's rewards are logged."""

    def __post_init__(self) -> None:
        _combine(self, self.terms)

    def __call__(self, policy: PairScores, reference: PairScores) -> Float[Tensor, " group"]:
        """Return the weighted sum of each pair's losses."""
        return torch.stack([t.weight * t.objective(policy, reference) for t in self.terms]).sum(0)

    def rewards(self, policy: PairScores, reference: PairScores) -> Float[Tensor, "group 2"]:
        """Return the rewards of the first objective."""
        return self.terms[0].objective.rewards(policy, reference)


@dataclass(frozen=True)
class PointTerm:
    """One part of a PointSum."""

    objective: PointObjective
    """The loss."""
    weight: float = 1.0
    """Its factor."""


@dataclass(frozen=True)
class PointSum(PointObjective):
    """A weighted sum of pointwise objectives for the same view of the data."""

    terms: Sequence[PointTerm]
    """The losses and their factors; the first one's rewards are logged."""

    def __post_init__(self) -> None:
        _combine(self, self.terms)

    def __call__(
        self, policy: PointScores, reference: PointScores, context: PointwiseContext
    ) -> Float[Tensor, " candidate"]:
        """Return the weighted sum of each response's losses."""
        return torch.stack([t.weight * t.objective(policy, reference, context) for t in self.terms]).sum(0)

    def rewards(self, policy: PointScores, reference: PointScores) -> Float[Tensor, " candidate"]:
        """Return the rewards of the first objective."""
        return self.terms[0].objective.rewards(policy, reference)


def _combine(total: Any, terms: Sequence[Any]) -> None:
    """Give a sum the view its terms share, everything they need, and the lowest of their learning rates.

    Raises ValueError where views differ.
    """
    views = [term.objective.view for term in terms]
    if not views or any(view != views[0] for view in views):
        found = " and ".join(sorted({str(view) for view in views})) or "no term"
        raise ValueError(f"terms must be one or more objectives for one view of the data, got {found}")
    object.__setattr__(total, "view", views[0])
    object.__setattr__(total, "requires", frozenset().union(*(term.objective.requires for term in terms)))
    rates = [term.objective.learning_rates for term in terms]
    object.__setattr__(total, "learning_rates", None if None in rates else min(rates))
