"""The vocabulary head of a language model, kept beside a reward head while it trains."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.errors import ModelError
from align.models.adapters import has_adapters
from align.models.backbone import Backbone
from align.models.causal import causal_class
from align.models.foreign_code import may_run_code
from align.models.loading import load_part
from align.scoring.decoder import LANGUAGE_HEAD, decoder, unwrapped
from align.scoring.own_head import is_plain, own_logits


class TiedHead(nn.Module):
    """The input embedding used as the output projection; it holds no parameter of its own but a bias."""

    def __init__(self, embedding: nn.Module, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self._embedding = [embedding]  # in a list, so that it is not registered a second time
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """Return the weight, `[vocab, hidden]`."""
        weight: Tensor = self._embedding[0].weight  # type: ignore[assignment]
        return weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits."""
        return F.linear(hidden, self.weight, self.bias)


class OwnHead(nn.Module):
    """All that a causal model does after its decoder, by its own code; it holds the weights of that only."""

    def __init__(self, causal: Any) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(_after_decoder(causal))
        decoder(causal).to("meta")
        self._causal = [causal]

    @property
    def weight(self) -> Tensor:
        """Return the weight of the projection, `[vocab, hidden]`."""
        weight: Tensor = self._causal[0].get_output_embeddings().weight
        return weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits."""
        (causal,) = self._causal
        return own_logits(causal, decoder(causal), causal.get_output_embeddings(), hidden)


def attach_language_head(model: nn.Module, backbone: Backbone) -> None:
    """Give a reward model what its backbone does after the decoder: projection, factors, caps, norms, under any name.

    The projection is shared with the embedding where it is tied there. Other weights are read from the backbone's,
    trained with them, and frozen beside adapters. Raises ModelError where the backbone has none.
    """
    inner = unwrapped(model)
    tied = getattr(inner.config.get_text_config(), "tie_word_embeddings", False)  # Inkling's says nothing
    with torch.device("meta"):
        causal: Any = causal_class(inner.config).from_config(
            copy.deepcopy(inner.config),
            attn_implementation="eager",
            trust_remote_code=may_run_code(backbone.path, backbone.revision),
        )
    projection = causal.get_output_embeddings()
    own = [p for part in _after_decoder(causal).values() for p in part.parameters() if p is not projection.weight]
    if own or not tied:
        causal = _loaded(inner, backbone)
        projection = causal.get_output_embeddings()
    if tied:
        projection = TiedHead(inner.get_input_embeddings(), getattr(projection, "bias", None))
        causal.set_output_embeddings(projection)
    head = projection if is_plain(causal, decoder(causal), projection) else OwnHead(causal)
    setattr(inner, LANGUAGE_HEAD, head.train().requires_grad_(not has_adapters(model)))


def _after_decoder(causal: Any) -> dict[str, nn.Module]:
    return {name: part for name, part in causal.named_children() if part is not decoder(causal)}


def _loaded(inner: Any, backbone: Backbone) -> Any:
    """Return the backbone as a language model."""
    if any("SequenceClassification" in name for name in inner.config.architectures or []):
        raise ModelError(
            f"backbone path {backbone.path}: a reward model without a vocabulary head, which a language loss needs: "
            "set objective.lm_weight to 0, or start from a language model"
        )
    same: Any = str(inner.dtype).removeprefix("torch.")
    return load_part(causal_class(inner.config), replace(backbone, dtype=same))


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
