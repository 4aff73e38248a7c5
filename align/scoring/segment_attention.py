"""Attention over a packed row by one dense call per part: for any device, dtype and width of head, and for dropout."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from align.scoring.placement import Bounds


def segment_attention(
    query: Float[Tensor, "row head position width"],
    key: Float[Tensor, "row keyhead position width"],
    value: Float[Tensor, "row keyhead position width"],
    bounds: Bounds,
    **options: Any,
) -> Float[Tensor, "row head position width"]:
    """Let prompts attend to themselves causally, each response to its prompt and to itself, other rows to themselves.

    `options` are passed on to `scaled_dot_product_attention` (`scale`, `dropout_p`).
    """
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    attend: Callable[..., Tensor] = partial(F.scaled_dot_product_attention, **options)
    prompts = [slice(*ends) for ends in itertools.pairwise(bounds.prompts)]
    parts = [attend(query[:, :, own], key[:, :, own], value[:, :, own], is_causal=True) for own in prompts]
    for start, stop in itertools.pairwise(bounds.rows):
        own, length = slice(bounds.prompts[-1] + start, bounds.prompts[-1] + stop), stop - start
        if start >= bounds.trees[-1]:
            parts.append(attend(query[:, :, own], key[:, :, own], value[:, :, own], is_causal=True))
            continue
        above = prompts[bisect.bisect_right(bounds.trees, start) - 1]
        keys, values = (torch.cat([seen[:, :, above], seen[:, :, own]], 2) for seen in (key, value))
        width = keys.shape[2] - length
        mask = torch.ones(length, width + length, dtype=torch.bool, device=query.device).tril(width)
        parts.append(attend(query[:, :, own], keys, values, attn_mask=mask))
    return torch.cat(parts, 2)
