"""The vocabulary head of a language model, kept beside a reward head while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from align.errors import ModelError
from align.models.adapters import has_adapters
from align.models.backbone import Backbone
from align.models.loading import load_part
from align.scoring.backbone import LANGUAGE_HEAD, unwrapped


class TiedHead(nn.Module):
    """The input embedding used as the output projection; it holds no parameter of its own."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self._embedding = [embedding]  # in a list, so that it is not registered a second time

    @property
    def weight(self) -> Tensor:
        """Return the weight, `[vocab, hidden]`."""
        weight: Tensor = self._embedding[0].weight  # type: ignore[assignment]
        return weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits."""
        return F.linear(hidden, self.weight)


def attach_language_head(model: nn.Module, backbone: Backbone) -> None:
    """Give a reward model the vocabulary head of its backbone: shared with the embedding where it is tied there.

    An untied one is read from the backbone's weights, trained with them, and frozen beside adapters.
    Raises ModelError where the backbone has none.
    """
    inner = unwrapped(model)
    if inner.config.get_text_config().tie_word_embeddings:
        setattr(inner, LANGUAGE_HEAD, TiedHead(inner.get_input_embeddings()))
        return
    if any("SequenceClassification" in name for name in inner.config.architectures or []):
        raise ModelError(
            f"backbone path {backbone.path}: a reward model without a vocabulary head, which a language loss needs: "
            "set objective.lm_weight to 0, or start from a language model"
        )
    same: Any = str(inner.dtype).removeprefix("torch.")
    own: Any = load_part(AutoModelForCausalLM, replace(backbone, dtype=same)).get_output_embeddings()
    own.train().requires_grad_(not has_adapters(model))
    setattr(inner, LANGUAGE_HEAD, own)


@contextmanager
def without_language_head(model: nn.Module) -> Iterator[None]:
    """Take the vocabulary head off, for an export: a reward model of transformers has none."""
    parts = unwrapped(model)._modules
    kept = parts.pop(LANGUAGE_HEAD, None)
    try:
        yield
    finally:
        if kept is not None:
            parts[LANGUAGE_HEAD] = kept
