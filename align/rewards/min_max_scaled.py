"""Scores as points between 0 and 100."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from align.errors import ConfigError
from align.rewards.scorers import Dialogue, Scorer


class MinMaxScaled(Scorer):
    """Another scorer's scores in points: 0 at the lower end of an attribute's scale, 100 at the upper; not clamped."""

    def __init__(self, scorer: Scorer, scales: dict[str, tuple[float, float]]) -> None:
        """Name scorer and scales.

        Args:
            scorer: Gives the scores.
            scales: Lower and upper end of each attribute that is wanted, in the order wanted.
        """
        if unknown := [name for name in scales if name not in scorer.attributes]:
            raise ConfigError(f"scales name {unknown[0]!r}, the scorer has {', '.join(scorer.attributes)}")
        if flat := [name for name, (low, high) in scales.items() if low == high]:
            raise ConfigError(f"scales.{flat[0]}: the ends must differ")
        self.scorer, self.scales = scorer, {name: (float(low), float(high)) for name, (low, high) in scales.items()}
        self.attributes = tuple(scales)

    @property
    def identity(self) -> str:
        """Return the scorer's identity and the scales."""
        text = repr((self.scorer.identity, self.scales))
        return f"points {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def score(self, prompts: Sequence[Dialogue], responses: Sequence[str]) -> Float[Tensor, "response attribute"]:
        """Return points."""
        scores = self.scorer.score(prompts, responses)[:, [self.scorer.attributes.index(n) for n in self.scales]]
        low, high = scores.new_tensor(list(self.scales.values())).T
        points: Tensor = 100 * (scores - low) / (high - low)
        return points
