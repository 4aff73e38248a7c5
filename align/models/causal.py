"""Whether a model is causal: no token may change what was said before it."""

from __future__ import annotations

from typing import Any

import torch

from align.errors import ModelError, shorten
from align.models.adapters import evaluating

ROWS = ([3, 4, 5, 6], [3, 4, 5, 7])
"""Two rows that differ in their last token."""
ROUNDING = 0.02
"""Relative difference below which logits are the same."""


@torch.no_grad()
def check_causal(model: Any, path: str) -> None:
    """Run four tokens. Raises ModelError for a model that looks ahead, or that does not run on tokens alone.

    Weights that are not there yet (a sharded model before it is loaded) cannot be tried.
    """
    kind, parameter = model.config.model_type, next(model.parameters())
    if parameter.is_meta:
        return
    try:
        with evaluating(model):
            logits = model(input_ids=torch.tensor(ROWS, device=parameter.device), use_cache=False).logits[:, :3].float()
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise ModelError(
            f"backbone path {path}: model type {kind} does not run on token ids alone ({type(error).__name__}: "
            f"{shorten(error, 160)}): take a causal language model"
        ) from error
    if float((logits[0] - logits[1]).norm()) > ROUNDING * float(logits[0].norm()):
        told = "its config.json says is_decoder: false; " if getattr(model.config, "is_decoder", True) is False else ""
        raise ModelError(
            f"backbone path {path}: model type {kind} is a two-way model, whose tokens see those after them ({told}"
            "answers cannot be scored or drawn with it): take a causal language model"
        )
