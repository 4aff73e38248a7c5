"""Embeddings of instruction tokens: fresh rows for tokens nobody trained, and a warning where two are alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from align.errors import ConfigError
from align.records import Instructions

ALIKE = 0.9
"""Cosine above which two instructions of one token each are read as the same."""


@torch.no_grad()
def reinitialize_embeddings(model: Any, tokenizer: Any, tokens: Sequence[str], seed: int = 0) -> None:
    """Give tokens random input embeddings of the mean length. Raises ConfigError for one the tokenizer splits."""
    table = model.get_input_embeddings().weight
    length = table.float().norm(dim=-1).mean()
    draw = torch.Generator().manual_seed(seed)
    for token in tokens:
        ids = tokenizer(token, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise ConfigError(f"init_tokens: {token!r} is {len(ids)} tokens, expected one")
        row = torch.randn(table.shape[1], generator=draw)
        table[ids[0]] = (row / row.norm() * length.cpu()).to(table)


@torch.no_grad()
def cosine_of_rows(model: Any, tokenizer: Any, instructions: Instructions) -> float | None:
    """Return the cosine of two instructions of one token each, None for longer ones; warn where they are alike."""
    pair = [
        tokenizer(text, add_special_tokens=False).input_ids for text in (instructions.positive, instructions.negative)
    ]
    if any(len(ids) != 1 for ids in pair):
        return None
    embeddings: nn.Embedding = model.get_input_embeddings()
    rows = embeddings.weight[[ids[0] for ids in pair]].float()
    cosine = float(F.cosine_similarity(rows[0], rows[1], dim=0))
    if cosine > ALIKE:
        warnings.warn(
            f"the embeddings of {instructions.positive!r} and {instructions.negative!r} have cosine {cosine:.2f}: the "
            "model reads them as the same; set init_tokens to both (full fine-tuning)",
            stacklevel=2,
        )
    return cosine
