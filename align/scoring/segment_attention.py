"""Attention over a packed row of candidate groups, one small dense call per segment."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Tree = tuple[int, int, tuple[tuple[int, int], ...]]
"""Start and length of a prompt, then start and length of each of its responses, which follow it."""


class Segments:
    """Where prompts and responses lie in a packed row, with the masks their attention needs."""

    def __init__(self, trees: list[Tree]) -> None:
        self.trees = trees
        self.asked = 0
        """How often attention was computed over them."""
        self._masks: dict[tuple[int, int, torch.device], Tensor] = {}

    def placeholder(self, device: torch.device) -> Tensor:
        """Return a mask that brings the segments to our attention function.

        A model hands a 4-D mask on as it is, whatever else it hands on. Attention that is not ours finds it closed.
        """
        return carrying(torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device), self)

    def mask(self, response: int, prompt: int, device: torch.device) -> Tensor:
        """Return which keys `[prompt | response]` each response token may see."""
        key = (response, prompt, device)
        if key not in self._masks:
            self._masks[key] = torch.ones(response, prompt + response, dtype=torch.bool, device=device).tril(prompt)
        return self._masks[key]


def carrying(mask: Tensor, load: Any) -> Tensor:
    """Return a mask with something for our attention function on it."""
    mask.carried = load  # type: ignore[attr-defined]
    return mask


def carried(mask: Tensor | None) -> Any:
    """Return what a mask carries, None for a plain one."""
    return getattr(mask, "carried", None)


def segment_attention(
    query: Float[Tensor, "row head position width"],
    key: Float[Tensor, "row keyhead position width"],
    value: Float[Tensor, "row keyhead position width"],
    segments: Segments,
    **options: Any,
) -> Float[Tensor, "row head position width"]:
    """Let prompts attend to themselves causally, and each response to its prompt and to itself.

    `options` are passed on to `scaled_dot_product_attention` (`scale`, `dropout_p`).
    """
    segments.asked += 1
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    parts = []
    for start, prompt, responses in segments.trees:
        own = slice(start, start + prompt)
        keys, values = key[:, :, own], value[:, :, own]
        parts.append(F.scaled_dot_product_attention(query[:, :, own], keys, values, is_causal=True, **options))
        for begin, length in responses:
            own = slice(begin, begin + length)
            seen = torch.cat([keys, key[:, :, own]], 2), torch.cat([values, value[:, :, own]], 2)
            mask = segments.mask(length, prompt, query.device)
            parts.append(F.scaled_dot_product_attention(query[:, :, own], *seen, attn_mask=mask, **options))
    return torch.cat(parts, 2)
