"""Workers on a Ray cluster that draw, and what they draw is compared: their settings."""

from __future__ import annotations

from dataclasses import dataclass

from align.errors import ConfigError
from align.workers.ray_settings import RayWorkers


@dataclass(frozen=True)
class ComparedWorkers(RayWorkers):
    """Processes on a Ray cluster that sample with align's own engine, the very tokens drawn here."""

    most_difference: float = 0.2
    """Mean difference of the workers' log-probabilities from ours, in nats a token, above which what they drew is
    refused: another folder on their disk, or weights in another precision."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.most_difference > 0:
            raise ConfigError(f"most_difference must be positive, got {self.most_difference}")
