"""Models that are used without a check, because their user says so."""

from __future__ import annotations

from torch import nn

from align.scoring.decoder import unwrapped

CHECKED = "checked_engine"
"""Where a model keeps the name of the engine that was found right for it."""
OWN_ENGINE = "align's own engine"


def trust(model: nn.Module) -> None:
    """Let a model draw without a check, by align's own engine."""
    setattr(unwrapped(model), CHECKED, OWN_ENGINE)
