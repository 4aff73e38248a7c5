"""Which responses representation methods read, and which of their states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from align.activations import LayerRange
from align.errors import ConfigError
from align.records import MethodView

ResponseSource = Literal["random", "both", "chosen", "rejected"]
VIEW: dict[ResponseSource, MethodView] = {
    "random": "either",
    "both": "pairs",
    "chosen": "singles",
    "rejected": "worst",
}


@dataclass(frozen=True)
class ActivationSettings:
    """Which responses are read, and which of their states."""

    target_layers: list[int] | LayerRange | None = None
    """Layers that are moved, 1 to the number of blocks; null takes the paper's, scaled to the model's depth."""
    max_response: int = 64
    """Longest response, in tokens; what is beyond is cut."""
    response_source: ResponseSource = "both"
    """Which response of a pair; `random` draws one by a hash of the example's id."""
    include_last_prompt_token: bool = False
    """Also move the state that predicts the first token of the response, as LoRRA does."""
    legacy_lora_span: bool = False
    """Give the block at the highest layer an adapter too, as the released code does: it never gets a gradient."""
    cache: Literal["off", "disk"] = "off"
    """`disk` keeps frozen states of every response seen, for later epochs and runs with another alpha, rate or rank: in
    float32 layers x tokens x width x 8 bytes each."""
    cache_folder: str = "runs/cache/states"
    """Where they are kept, under a hash of all that decides them."""
    log_kl_every_n_steps: int = 0
    """Log `kl` every so many optimiser steps and in validation: the divergence from the start's next-token distribution
    to the policy's, in nats per response token. It costs two whole forward passes; 0 leaves it out."""

    def __post_init__(self) -> None:
        if self.max_response < 1:
            raise ConfigError(f"reading.max_response must be at least 1, got {self.max_response}")
        if self.log_kl_every_n_steps < 0:
            raise ConfigError(f"reading.log_kl_every_n_steps must not be negative, got {self.log_kl_every_n_steps}")
