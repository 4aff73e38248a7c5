"""The head of a reward model as transformers keeps it: one linear layer, read at the last token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.conversion_mapping import get_model_conversion_mapping

from align.errors import ModelError

HEAD = ("score.weight",)
"""What a causal language model lacks to be a reward model."""


def check_head(path: str, config: Any) -> None:
    """Raise ModelError for an architecture without a classifier that is a linear layer on the last token."""
    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise ModelError(
            f"{path}: transformers has no sequence classifier of model type {config.model_type}, expected one with "
            f"{HEAD[0]}: take another model as reward model (as a policy this one may do)"
        )
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    own = _beside_decoder(classifier)
    if own != HEAD:
        raise ModelError(
            f"{path}: {type(classifier).__name__} classifies by {', '.join(own) or 'no weights of its own'}, expected "
            f"{HEAD[0]} at the last token of a causal model: an encoder cannot be a reward model here (it can score "
            "texts as a TextClassifier)"
        )


def vocabulary_head(config: Any) -> Callable[[str], bool]:
    """Return what tells the weights of a causal model's vocabulary head, which a reward model does without, by name."""
    if type(config) not in AutoModelForCausalLM._model_mapping:
        return lambda name: False
    with torch.device("meta"):
        causal = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    head, renamings = set(_beside_decoder(causal)), get_model_conversion_mapping(causal)

    def belongs(name: str) -> bool:
        for renaming in renamings:
            name, _ = renaming.rename_source_key(name)
        return name in head

    return belongs


def _beside_decoder(model: Any) -> tuple[str, ...]:
    return tuple(name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}."))
