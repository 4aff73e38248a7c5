"""A reward that may not fall below a limit."""

from __future__ import annotations

from dataclasses import dataclass

from align.errors import ConfigError


@dataclass(frozen=True)
class Gate:
    """Adds a penalty where an attribute is too low, so that it cannot be traded away."""

    attribute: str
    at_least: float
    penalty: float = 10.0

    def __post_init__(self) -> None:
        if self.penalty < 0:
            raise ConfigError(f"gate.penalty must not be negative, got {self.penalty}")
