"""Which layout a model will take for batches that are yet to be made, found by asking it."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from align.records import CandidateBatch, EncodedGroup, LayoutName, RowLayout
from align.scoring.decoder import choose_layout


def row_layout(model: nn.Module, layout: str, longest: int, device: torch.device) -> RowLayout:
    """Return the layout of batches of short candidates, and the longest candidate up to which the model takes it.

    Args:
        model: The model.
        layout: What was asked for; one that is named is taken for every batch.
        longest: Tokens of the longest candidate there can be.
        device: Where batches are computed.
    """
    short = _chosen(model, layout, 2, device)
    if layout != "auto" or short == "padded" or _chosen(model, layout, longest, device) == short:
        return RowLayout(short)
    taken, refused = 2, longest
    while refused - taken > 1:
        middle = (taken + refused) // 2
        if _chosen(model, layout, middle, device) == short:
            taken = middle
        else:
            refused = middle
    return RowLayout(short, taken)


def _chosen(model: nn.Module, layout: str, length: int, device: torch.device) -> LayoutName:
    """Return the layout of a batch of two candidates of a length, with one prompt; no token of it is stored."""
    token = torch.zeros(1, dtype=torch.long, device=device)
    group = EncodedGroup("asked", [0], [[0], [0]], [0, 1], [[], []], 1.0, [False] * 2)
    batch = CandidateBatch.of([group])._replace(
        prompt_ids=token.expand(length - 1), response_ids=token.expand(2), prompt_lengths=(length - 1,)
    )
    return cast("LayoutName", choose_layout(model, batch, layout))
