"""Attention over a packed row by one dense call per part: for any device, dtype and width of head, and for dropout."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from align.scoring.attention_rule import PLAIN_RULE, AttentionRule
from align.scoring.placement import Bounds
from align.scoring.row_marks import parts_of


def segment_attention(
    query: Float[Tensor, "row head position width"],
    key: Float[Tensor, "row keyhead position width"],
    value: Float[Tensor, "row keyhead position width"],
    bounds: Bounds,
    rule: AttentionRule = PLAIN_RULE,
    **options: Any,
) -> Float[Tensor, "row head position width"]:
    """Let prompts attend to themselves causally, each response to its prompt and to itself, other rows to themselves.

    `options` are those of `scaled_dot_product_attention` (`scale`, `dropout_p`).
    """
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    found = []
    for start, stop, prompt, _ in parts_of(bounds):
        seen = [slice(start, stop)] if prompt is None else [slice(*prompt), slice(start, stop)]
        keys, values = (torch.cat([whole[:, :, part] for part in seen], 2) for whole in (key, value))
        found.append(_attend(query[:, :, start:stop], keys, values, rule, **options))
    return torch.cat(found, 2)


def _attend(query: Tensor, keys: Tensor, values: Tensor, rule: AttentionRule, **options: Any) -> Tensor:
    """Return the attention of the last of a candidate's tokens to all of them."""
    before = keys.shape[2] - query.shape[2]
    rule = rule.within(keys.shape[2])
    if rule.plain and not before:
        return F.scaled_dot_product_attention(query, keys, values, is_causal=True, **options)
    if rule.window and (unseen := before - rule.window + 1) > 0:  # by any of these tokens
        keys, values, before = keys[:, :, unseen:], values[:, :, unseen:], before - unseen
    mask = _open(query.shape[2], before, rule.window, query.device)
    if rule.softcap is None and rule.sinks is None:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, **options)
    return _by_scores(query, keys, values, mask, rule, **options)


def _open(queries: int, before: int, window: int | None, device: torch.device) -> Bool[Tensor, "query key"]:
    mask = torch.ones(queries, before + queries, dtype=torch.bool, device=device).tril(before)
    return mask if window is None else mask.triu(before - window + 1)


def _by_scores(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    rule: AttentionRule,
    *,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Return attention whose scores are written out; in float32 at least."""
    wide = torch.promote_types(query.dtype, torch.float32)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    with torch.autocast(query.device.type, enabled=False):
        scores = query.to(wide) @ keys.to(wide).transpose(2, 3) * scale
        if rule.softcap is not None:
            scores = rule.softcap * torch.tanh(scores / rule.softcap)
        scores = scores.masked_fill(~mask, -torch.inf)
        if rule.sinks is not None:
            sinks = rule.sinks.to(wide)[None, :, None, None].expand(*scores.shape[:3], 1)
            scores = torch.cat([scores, sinks], 3)
        shares = F.dropout(scores.softmax(-1)[..., : keys.shape[2]], dropout_p)
        return (shares @ values.to(wide)).to(values.dtype)
