"""The auxiliary loss of mixtures of experts, which is not part of any objective here."""

from __future__ import annotations

import warnings
from typing import Any


def tell_router_loss(config: Any) -> None:
    """Say that the balancing loss a configuration asks for is not added: it is transformers' own loss that adds it."""
    text = config.get_text_config()
    coefficient = getattr(text, "router_aux_loss_coef", 0.0)
    if getattr(text, "output_router_logits", False) and coefficient:
        warnings.warn(
            f"config.json asks for the routers' auxiliary loss (output_router_logits, router_aux_loss_coef "
            f"{coefficient:g}): it is not added to the objective; experts are trained by the objective alone",
            stacklevel=2,
        )
