"""A reward that may not fall below a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from align.errors import ConfigError


@dataclass(frozen=True)
class Gate:
    """Adds a penalty where an attribute is too low, so that it cannot be traded away."""

    attribute: str
    at_least: float
    penalty: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.penalty < math.inf or not math.isfinite(self.at_least):
            raise ConfigError(
                f"gates: penalty must not be negative, and both be finite, got penalty {self.penalty}, at_least "
                f"{self.at_least}"
            )
