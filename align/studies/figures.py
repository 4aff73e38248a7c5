"""A figure over seeds, with what it was on every prompt where that is known, and the difference of two such figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.errors import DataError
from align.evaluation.statistics import Interval, mean_interval, nested_interval


@dataclass(frozen=True)
class Figure:
    """A figure over seeds."""

    by_seed: dict[str, float]
    """What was measured; a seed whose figure is null or not finite is left out, and counted in the table."""
    seeds: int
    """How many were measured."""
    by_prompt: dict[str, list[float]] | None = None
    """Its value on every prompt, of each seed; None where the files do not tell."""
    entities: tuple[str, ...] = ()
    """What each prompt is about."""

    def __post_init__(self) -> None:
        lengths = {len(self.entities), *(len(values) for values in (self.by_prompt or {}).values())}
        if self.by_prompt is not None and len(lengths) > 1:
            raise DataError(f"table: seeds were measured on {sorted(lengths)} prompts, expected the same for all")

    @property
    def nested(self) -> bool:
        """Return whether its interval is over entities and prompts too, not over seeds alone."""
        return self.by_prompt is not None

    @property
    def interval(self) -> Interval:
        """Return the mean and its 95 % interval over seeds, or over seeds, entities and prompts."""
        if self.by_prompt is None:
            return mean_interval(list(self.by_seed.values()))
        found = nested_interval([self.by_prompt[seed] for seed in self.by_seed], self.entities)
        return found._replace(value=float(np.mean(list(self.by_seed.values()))))

    def as_dict(self) -> dict[str, Any]:
        """Return the values, their mean, its interval, and what that is over."""
        if not self.by_seed:
            return {"mean": None, "low": None, "high": None, "seeds": self.seeds, "values": {}}
        mean, low, high = self.interval
        over = "seeds, entities, prompts" if self.nested else "seeds"
        return {"mean": mean, "low": low, "high": high, "over": over, "seeds": self.seeds, "values": self.by_seed}

    def text(self, digits: int) -> str:
        """Return the mean, its interval, and every seed's value; what was left out is said."""
        found, values = self.as_dict(), [f"{value:.{digits}f}" for value in self.by_seed.values()]
        missing = f" ({len(values)} of {self.seeds} seeds)" if len(values) < self.seeds else ""
        if not values or (len(values) == 1 and not self.nested):
            return f"{values[0] if values else '-'}{missing}"
        each = f" ({' / '.join(values)})" if len(values) > 1 else ""
        interval = f"[{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
        return f"{found['mean']:.{digits}f} {interval}{each}{missing}"

    def minus(self, other: Figure) -> Figure:
        """Return the difference to another, in pairs of the same seed, and of the same prompt where both have them."""
        shared = [seed for seed in self.by_seed if seed in other.by_seed]
        prompts = None
        if self.by_prompt is not None and other.by_prompt is not None and self.entities == other.entities:
            pairs = {seed: (self.by_prompt[seed], other.by_prompt[seed]) for seed in shared}
            prompts = {seed: _less(*pair) for seed, pair in pairs.items()}
        values = {seed: self.by_seed[seed] - other.by_seed[seed] for seed in shared}
        return Figure(values, max(self.seeds, other.seeds), prompts, self.entities if prompts is not None else ())


def _less(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(first, second, strict=True)]


def numbers(values: Sequence[float | None]) -> list[float]:
    """Return the values of prompts, NaN for null."""
    return [math.nan if value is None else float(value) for value in values]
