"""Preference directions: unit vectors, in the plane of two rewards named by their angle."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from align.errors import ConfigError

Pair = tuple[float, float]
Weights = tuple[float, ...]
Way = float | Weights
"""A direction: an angle in degrees in the plane of two rewards, a unit vector for more of them."""


@dataclass(frozen=True)
class Arc:
    """The directions (cos a, sin a) with angles a between two ends (DPA, Wang et al. 2024, arXiv:2402.18571).

    The paper's arc runs from the first reward alone to as much weight against the second: -45 to 0 degrees.
    """

    low: float = -45.0
    """Least angle, in degrees."""
    high: float = 0.0
    """Greatest angle, in degrees."""

    def __post_init__(self) -> None:
        if not -180 <= self.low < self.high <= 180:
            raise ConfigError(f"arc: low must lie below high, both in [-180, 180] degrees, got {self.low}, {self.high}")

    @property
    def middle(self) -> float:
        """Return the angle between the ends."""
        return (self.low + self.high) / 2

    @property
    def middle_weights(self) -> Pair:
        """Return the unit vector in the middle."""
        return unit(self.middle)

    def draw(self, stream: random.Random, count: int) -> list[float]:
        """Return angles drawn uniformly and independently."""
        return [stream.uniform(self.low, self.high) for _ in range(count)]

    def even(self, count: int) -> list[float]:
        """Return angles at equal steps from the upper end to the lower one."""
        step = (self.high - self.low) / max(count - 1, 1)
        return [self.high - i * step for i in range(count)]

    def holds(self, angle: float) -> bool:
        """Tell whether an angle lies on the arc, up to a hundredth of a degree."""
        return self.low - 0.01 <= angle <= self.high + 0.01

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]"


def unit(angle: float) -> Pair:
    """Return the unit vector of an angle in degrees."""
    radians = math.radians(angle)
    return math.cos(radians), math.sin(radians)


def angle_of(weights: Sequence[float]) -> float:
    """Return the angle of two weights in degrees, whatever their length. Raises ConfigError for the zero vector."""
    first, second = weights
    if not (math.isfinite(first) and math.isfinite(second)) or first == second == 0:
        raise ConfigError(f"direction: two weights that are numbers and not both 0, got {first:g}, {second:g}")
    return math.degrees(math.atan2(second, first))


def vector(way: Way) -> Weights:
    """Return the unit vector of a direction."""
    return way if isinstance(way, tuple) else unit(way)


def along(way: Way, rewards: Sequence[float]) -> float:
    """Return v . r, what rewards are worth in a direction."""
    return sum(weight * reward for weight, reward in zip(vector(way), rewards, strict=True))


def way_of(weights: Sequence[float]) -> Way:
    """Return the direction of weights of any length. Raises ConfigError for the zero vector."""
    if len(weights) == 2:
        return angle_of(weights)
    length = math.hypot(*weights)
    if not math.isfinite(length) or length == 0:
        raise ConfigError(
            f"direction: weights that are numbers and not all 0, got {', '.join(f'{w:g}' for w in weights)}"
        )
    return tuple(weight / length for weight in weights)


def parse_direction(text: str, attributes: Sequence[str]) -> Way:
    """Return the direction of `0.8,-0.6` or `helpfulness=0.8,verbosity=-0.6`; an attribute left out has weight 0."""
    weights: dict[str, float] = {}
    for place, part in enumerate(text.split(",")):
        name, equals, value = part.rpartition("=")
        name = name.strip() if equals else attributes[place] if place < len(attributes) else "one too many"
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name not in attributes or math.isnan(number) or name in weights:
            number_word = "two" if len(attributes) == 2 else str(len(attributes))
            raise ConfigError(
                f"direction {text!r}: expected {number_word} weights, as in 0.8,-0.6 or {attributes[0]}=0.8,"
                f"{attributes[1]}=-0.6"
            )
        weights[name] = number
    return way_of([weights.get(name, 0.0) for name in attributes])


def half_up(value: float) -> int:
    """Return the nearest integer, the upper one of two that are as near."""
    return math.floor(value + 0.5)
