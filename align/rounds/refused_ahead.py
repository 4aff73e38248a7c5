"""Which rounds cannot be drawn while the ones before are trained on, and whose losses would not be corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from align.errors import ConfigError
from align.sampling.server_pool import ServerPool

if TYPE_CHECKING:
    from align.rounds.settings import RoundSettings


def check_ahead(settings: RoundSettings) -> None:
    """Raise ConfigError for `ahead` with what cannot draw then, or with what asks for weights that are not there."""
    ahead = settings.ahead
    if ahead not in (0, 1):
        raise ConfigError(f"ahead must be 0 or 1, got {ahead}: weights of earlier rounds are not kept")
    if not ahead:
        return
    if settings.mixture is not None:
        raise ConfigError(
            "ahead 1 is for servers, and mixture is sampled by our own engine, which takes turns with training: leave "
            "mixture out, or set ahead to 0"
        )
    if not isinstance(settings.engine, ServerPool):
        name = "our own engine" if settings.engine is None else type(settings.engine).__name__
        raise ConfigError(
            f"ahead 1 has servers draw while the model trains, {name} takes turns with it: set engine.urls, or ahead "
            "to 0"
        )
    if settings.scorer.asks_trained:
        raise ConfigError(
            "ahead 1 begins a round before the weights are there that LivePolicy judges it by: name the folder of a "
            "model, responder LocalModel, or set ahead to 0"
        )
    check_corrected(settings)


def check_corrected(settings: RoundSettings) -> None:
    """Raise ConfigError where losses on samples of earlier weights would not be corrected."""
    if settings.selection.keeps_samples and settings.engine is not None and settings.engine.importance_cap is None:
        raise ConfigError(
            "ahead 1 trains on samples of earlier weights, which engine.importance_cap null would leave uncorrected: "
            "set it, or ahead to 0"
        )
