"""Which settings of rounds go with conditions, and which do without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from align.errors import ConfigError
from align.rewards.scorers import Direction

if TYPE_CHECKING:
    from align.rounds.settings import RoundSettings


def check_conditions(settings: RoundSettings) -> None:
    """Raise ConfigError for a selection that needs conditions or loses them, or for what has no effect under them."""
    name, writes = type(settings.selection).__name__, settings.selection.writes_conditions
    if settings.conditions is None:
        if writes:
            raise ConfigError(
                f"selection {name} needs conditions: set align.callbacks.resampling.IterativeResampling.conditions"
            )
        return
    if not writes:
        raise ConfigError(
            f"selection {name} keeps nothing of the conditions that samples are drawn under: take "
            "DirectionalRejectionSampling, or leave conditions out"
        )
    if settings.missing_eos_penalty is not None:
        raise ConfigError("missing_eos_penalty has no effect on rounds with conditions: leave it out")
    if settings.direction != Direction():
        raise ConfigError("direction has no effect on rounds with conditions, which draw their own: leave it out")


def check_drawn(settings: RoundSettings, number: int) -> None:
    """Raise ConfigError where the selection is for the data's own responses, and a round of this number draws."""
    if settings.selection.takes_data and not settings.rated(number):
        fix = "set epochs to trainer.max_epochs, which makes one round" if number else "set conditions.rated_start"
        raise ConfigError(
            f"selection {type(settings.selection).__name__} is for the data's own responses, and round {number} draws "
            f"samples: {fix}, or take DirectionalRejectionSampling"
        )
