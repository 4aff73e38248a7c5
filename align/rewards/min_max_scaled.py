"""Scores as points between 0 and 100."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.rewards.derived_scorer import DerivedScorer
from align.rewards.scorers import Scorer


class MinMaxScaled(DerivedScorer):
    """Another scorer's scores in points: 0 at the lower end of an attribute's scale, 100 at the upper; not clamped."""

    log_odds = False

    def __init__(self, scorer: Scorer, scales: dict[str, tuple[float, float]]) -> None:
        """Name scorer and scales.

        Args:
            scorer: Gives the scores.
            scales: Lower and upper end of each attribute that is wanted, in the order wanted.
        """
        super().__init__(scorer)
        if unknown := [name for name in scales if name not in scorer.attributes]:
            raise ConfigError(f"scales name {unknown[0]!r}, the scorer has {', '.join(scorer.attributes)}")
        if flat := [name for name, (low, high) in scales.items() if low == high]:
            raise ConfigError(f"scales.{flat[0]}: the ends must differ")
        self.scales = {name: (float(low), float(high)) for name, (low, high) in scales.items()}
        self.attributes = tuple(scales)

    def known_by(self, scorer: str) -> str:
        """Return a hash of the scorer and the scales."""
        text = repr((scorer, self.scales))
        return f"points {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def derived(
        self, scores: Float[Tensor, "response score"], owners: Sequence[Hashable]
    ) -> Float[Tensor, "response attribute"]:
        """Return points."""
        chosen = scores[:, [self.scorer.attributes.index(name) for name in self.scales]]
        low, high = chosen.new_tensor(list(self.scales.values())).T
        points: Tensor = 100 * (chosen - low) / (high - low)
        return points
