"""Scores held within limits, so that one reward cannot outweigh all others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.rewards.derived_scorer import DerivedScorer
from align.rewards.scorers import Scorer


class ClippedRewards(DerivedScorer):
    """Another scorer's attributes, those with limits clipped to them; a missing score stays missing."""

    def __init__(self, scorer: Scorer, limits: dict[str, tuple[float | None, float | None]]) -> None:
        """Name scorer and limits.

        Args:
            scorer: Gives the scores; a RewardEnsemble with `standardise` is clipped behind it.
            limits: Lowest and highest value by attribute, null for an open end, such as `{length: [-3, 3]}`.
        """
        super().__init__(scorer)
        if not limits:
            raise ConfigError("limits names no attribute: expected {NAME: [lowest, highest], ...}")
        for name, (low, high) in limits.items():
            least, most = -math.inf if low is None else low, math.inf if high is None else high
            if not least < most or (low is None and high is None):
                raise ConfigError(
                    f"limits.{name}: expected [lowest, highest], one of them perhaps null, got {limits[name]}"
                )
        self.limits = limits

    @property
    def attributes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the scorer's attributes. Raises ConfigError for limits of another one."""
        known = self.scorer.attributes
        if unknown := [name for name in self.limits if name not in known]:
            raise ConfigError(f"limits name {unknown[0]!r}, the scorer has {', '.join(known)}")
        return known

    def known_by(self, scorer: str) -> str:
        """Return a hash of the scorer and the limits."""
        text = repr((type(self.scorer).__name__, scorer, self.limits))
        return f"clipped {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def derived(
        self, scores: Float[Tensor, "response score"], owners: Sequence[Hashable]
    ) -> Float[Tensor, "response attribute"]:
        """Return the scores, clipped where their attribute has limits."""
        columns = [
            column.clamp(*self.limits[name]) if name in self.limits else column
            for name, column in zip(self.attributes, scores.T, strict=True)
        ]
        return torch.stack(columns, dim=1)
