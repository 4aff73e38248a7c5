"""Whether a model is causal: no token may change what was said before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM

from align.errors import ModelError, shorten
from align.models.adapters import evaluating

ROWS = ([3, 4, 5, 6], [3, 4, 5, 7])
"""Two rows that differ in their last token."""
PICTURES = "vision|visual|multi_modal|audio"
"""In names of weights beside the language model; any other that is too many is refused, such as a value head."""
ROUNDING = 0.02
"""Relative difference below which logits are the same."""


def causal_class(config: Any) -> Any:
    """Return the auto class that reads a causal model by its configuration.

    Where transformers has no causal language model of a type it is the one for pictures, sounds and text, which may
    run on tokens alone as well (`check_causal` tries it).
    """
    causal, kind = AutoModelForCausalLM, type(config)
    beside = kind not in causal._model_mapping and kind in AutoModelForMultimodalLM._model_mapping
    return AutoModelForMultimodalLM if beside else causal


def check_type(config: Any, path: str) -> Callable[[str], bool] | None:
    """Tell where only the language model inside a model of pictures and text is read, and by name what is left.

    Raises ModelError for a model type that transformers has no causal language model of, by its configuration.
    """
    kind, named = config.model_type, ", ".join(config.architectures or []) or "nothing"
    if getattr(config, "is_encoder_decoder", False) and "ForCausalLM" not in named:
        raise ModelError(
            f"backbone path {path}: model type {kind} is an encoder-decoder (its config.json names {named}): take a "
            "causal language model, such as a Llama, Qwen or Mistral"
        )
    if type(config) not in causal_class(config)._model_mapping and not hasattr(config, "auto_map"):
        raise ModelError(
            f"backbone path {path}: transformers has no causal language model of model type {kind} (its config.json "
            f"names {named}): take a causal language model, such as a Llama, Qwen or Mistral"
        )
    if type(config) not in AutoModelForCausalLM._model_mapping or type(config) is type(config.get_text_config()):
        return None
    if AutoModelForCausalLM._model_mapping[type(config)].config_class is not type(config.get_text_config()):
        return None  # it is read as a whole
    rank_zero_warn(
        f"backbone path {path}: only the language model inside this {kind} is read, trained and written: what is "
        "exported sees no pictures"
    )
    return lambda name: re.search(PICTURES, name) is not None


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
