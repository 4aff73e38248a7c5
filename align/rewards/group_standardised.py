"""Scores against those of the other samples of their prompt, so that no reward of several outweighs the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.rewards.derived_scorer import DerivedScorer
from align.rewards.scorers import Scorer

EPSILON = 1e-4
"""Added to deviations, as TRL does."""
SUFFIX = "_in_group"


class GroupStandardised(DerivedScorer):
    """Another scorer's attributes, and beside each its distance from the mean of the prompt's samples in deviations.

    For GDPO (Liu et al. 2026, arXiv:2601.05242; TRL's `multi_objective_aggregation: normalize_then_sum`): weigh NAME +
    `_in_group` in `direction.weights`, and let `objective.advantage` be {baseline: none, scale: advantages}. A reward
    that is the same for all samples of a prompt counts nothing, whatever its size. Deviations are those of a sample, n
    - 1 in the denominator, over all samples that have a score; a sample alone is at 0.
    """

    def __init__(self, scorer: Scorer) -> None:
        """Name the scorer.

        Args:
            scorer: Gives the scores, such as a RewardEnsemble with `combine: apart`.
        """
        super().__init__(scorer)
        self.compares = True

    @property
    def attributes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the scorer's attributes, then each within its group. Raises ConfigError for two of one name."""
        names = (*self.scorer.attributes, *(f"{name}{SUFFIX}" for name in self.scorer.attributes))
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"GroupStandardised: {twice[0]} is an attribute of the scorer already: name it otherwise")
        return names

    def known_by(self, scorer: str) -> str:
        """Return a hash of the scorer."""
        return f"in group {hashlib.sha256(repr((type(self.scorer).__name__, scorer)).encode()).hexdigest()[:16]}"

    def derived(
        self, scores: Float[Tensor, "response score"], owners: Sequence[Hashable]
    ) -> Float[Tensor, "response attribute"]:
        """Return the scores, and beside them the same within the responses of one owner."""
        groups = dict[Hashable, list[int]]()
        for place, owner in enumerate(owners):
            groups.setdefault(owner, []).append(place)
        found = torch.full_like(scores, torch.nan)
        for places in groups.values():
            own = scores[places]
            gaps = own - own.nanmean(0)
            known = (~own.isnan()).sum(0)
            found[places] = gaps / ((gaps.square().nansum(0) / (known - 1).clamp(min=1)).sqrt() + EPSILON)
        return torch.cat([scores, found], dim=1)
