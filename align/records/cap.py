"""Directions of more than two rewards: unit vectors around a middle one, a cap of the sphere."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from align.errors import ConfigError
from align.records.reward_directions import Weights, way_of


@dataclass(frozen=True)
class Cap:
    """The unit vectors of k rewards within an angle of an axis (DPA, Wang et al. 2024, arXiv:2402.18571, section 3).

    What an arc is to two rewards; the arc of -45 to 0 degrees is all within 22.5 degrees of its middle.
    """

    axis: tuple[float, ...]
    """Weights in the middle, of any length: as many as rewards, negative for one that should be small."""
    degrees: float = 30.0
    """Greatest angle to the axis, at most 90."""

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 90:
            raise ConfigError(f"conditioning.cap.degrees must lie in (0, 90], got {self.degrees}")
        if len(self.axis) < 3:
            raise ConfigError(f"conditioning.cap.axis: expected three weights or more, got {list(self.axis)}")
        way_of(self.axis)

    @property
    def middle(self) -> Weights:
        """Return the axis as a unit vector."""
        way = way_of(self.axis)
        assert isinstance(way, tuple)
        return way

    @property
    def middle_weights(self) -> Weights:
        """Return the axis as a unit vector."""
        return self.middle

    def draw(self, stream: random.Random, count: int) -> list[Weights]:
        """Return directions drawn uniformly over the cap's surface, and independently."""
        return [self._one(stream) for _ in range(count)]

    def _one(self, stream: random.Random) -> Weights:
        """Draw the angle to the axis, of density sin^(k-2), by rejection, and a direction across the axis."""
        size = len(self.axis)
        while True:
            angle = math.radians(self.degrees) * stream.random() ** (1 / (size - 1))
            if angle == 0 or stream.random() <= (math.sin(angle) / angle) ** (size - 2):
                break
        drawn = [stream.gauss() for _ in range(size)]
        along_axis = _dot(drawn, self.middle)
        across = [value - along_axis * weight for value, weight in zip(drawn, self.middle, strict=True)]
        share = math.sin(angle) / math.hypot(*across)
        return tuple(math.cos(angle) * w + share * a for w, a in zip(self.middle, across, strict=True))

    def even(self, count: int) -> list[Weights]:
        """Return directions spread over the cap, the same ones every time: the axis, then always the one farthest away.

        The farthest-point design of Gonzalez (1985) on 2000 fixed draws.
        """
        pool = [self.middle, *self.draw(random.Random(0), 2000)]
        chosen = [self.middle]
        nearest = [_dot(way, self.middle) for way in pool]
        while len(chosen) < count:
            chosen.append(pool[min(range(len(pool)), key=nearest.__getitem__)])
            nearest = [max(cosine, _dot(way, chosen[-1])) for cosine, way in zip(nearest, pool, strict=True)]
        return chosen[:count]

    def holds(self, way: Weights) -> bool:
        """Tell whether a direction lies on the cap, up to a hundredth of a degree."""
        cosine = _dot(self.middle, way)
        return math.degrees(math.acos(min(max(cosine, -1.0), 1.0))) <= self.degrees + 0.01

    def __str__(self) -> str:
        return f"within {self.degrees:g} degrees of ({', '.join(f'{w:.2f}' for w in self.middle)})"


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))
