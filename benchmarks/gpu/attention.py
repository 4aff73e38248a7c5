"""Attention alone, forward and backward: ours over shared prompts, and what others run on the same groups."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.records import CandidateBatch
from align.scoring.attention_rule import PLAIN_RULE, AttentionRule
from align.scoring.layouts import lay_out
from align.scoring.segment_attention import segment_attention
from benchmarks.gpu.flash_rows import Ends, flash_rows
from benchmarks.gpu.known_lengths import groups_of
from benchmarks.gpu.step_meter import Stopwatch, peak_gib, restart_peak

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class Way(NamedTuple):
    """A way to attend."""

    tokens: int
    """Positions it computes."""
    pairs: int
    """Query and key pairs that count."""
    attend: Attend
    """From `[head, token, width]` tensors to the output."""


def fill(lengths: list[list[int]], tokens: int) -> list[list[int]]:
    """Return groups drawn from the list, as many as the budget takes."""
    held: list[list[int]] = []
    for row in random.Random(0).sample(lengths, len(lengths)):
        if held and sum(map(sum, held)) + sum(row) > tokens:
            break
        held.append(row)
    return held


def triangle(n: int) -> int:
    """Return the pairs of causal attention over n tokens."""
    return n * (n + 1) // 2


def packed(
    lengths: list[list[int]], device: str, *, rule: AttentionRule = PLAIN_RULE, flex: bool = False, parts: bool = False
) -> Way:
    """Ours: every prompt once, its responses over it; as it is, by FlexAttention, or by dense parts."""
    batch = CandidateBatch.of(groups_of(lengths, 100))
    moved = batch._replace(prompt_ids=batch.prompt_ids.to(device), response_ids=batch.response_ids.to(device))
    row: Any = lay_out(moved, "packed").packed
    pairs = sum(triangle(p) + sum(n * p + triangle(n) for n in responses) for p, *responses in lengths)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        given = query[None], key[None], value[None]
        if parts:
            return segment_attention(*given, row.bounds, rule)[0]
        output: Tensor = row.attend(*given, rule=rule, flex=flex)
        return output[0].transpose(0, 1)

    return Way(sum(map(sum, lengths)), pairs, attend)


def rows(lengths: list[list[int]], device: str) -> Way:
    """Padding-free: every response with its prompt before it."""
    whole = [p + n for p, *responses in lengths for n in responses]
    ends = Ends.of(whole, device)
    order = lambda x: x.transpose(0, 1)  # noqa: E731
    return Way(sum(whole), sum(map(triangle, whole)), lambda q, k, v: flash_rows(order(q), order(k), order(v), ends))


def places(lengths: list[list[int]], device: str) -> tuple[Tensor, Tensor]:
    """Return group and part of every token of a packed row, all prompts before all responses; prompts are part 0."""
    prompts = [(g, 0) for g, row in enumerate(lengths) for _ in range(row[0])]
    responses = [(g, i) for g, row in enumerate(lengths) for i, n in enumerate(row) if i for _ in range(n)]
    group, part = torch.tensor(prompts + responses, device=device).T
    return group, part


def tree_mask(lengths: list[list[int]], device: str) -> Tensor:
    """Return which keys each token may see: of its own group, not later, of the prompt or of its own response."""
    group, part = places(lengths, device)
    place = torch.arange(len(group), device=device)
    same = (group[:, None] == group) & (place[:, None] >= place)
    return same & ((part == 0) | (part[:, None] == part))


def dense(lengths: list[list[int]], device: str) -> Way:
    """The same tokens as ours under one dense mask."""
    mask = tree_mask(lengths, device)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        repeats = query.shape[0] // key.shape[0]
        keys, values = (part[None].repeat_interleave(repeats, 1) for part in (key, value))
        return F.scaled_dot_product_attention(query[None], keys, values, attn_mask=mask)[0]

    return packed(lengths, device)._replace(attend=attend)


GEMMA = AttentionRule(window=1024, softcap=50.0)
"""Windows and caps as layers of Gemma 2 have them, the window a quarter as long."""
WAYS: dict[str, Callable[[list[list[int]], str], Way]] = {
    "ours": packed,
    "rows": rows,
    "dense": dense,
    "flex": partial(packed, flex=True),
    "flex, capped": partial(packed, rule=GEMMA, flex=True),
    "parts, capped": partial(packed, rule=GEMMA, parts=True),
}


def timed(way: Way, heads: tuple[int, int, int], device: str, repeats: int) -> dict[str, Any]:
    """Return milliseconds and rates of forward and backward passes in bfloat16."""
    query_heads, key_heads, width = heads
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    one = partial(torch.randn, device=device, dtype=dtype)  # as projections leave them: heads inside tokens
    make = lambda n: one(way.tokens, n, width).transpose(0, 1).requires_grad_()  # noqa: E731
    inputs = make(query_heads), make(key_heads), make(key_heads)
    gradient = torch.randn_like(way.attend(*inputs))
    once = lambda: torch.autograd.grad(way.attend(*inputs), inputs, gradient)  # noqa: E731
    for _ in range(min(repeats, 3)):
        once()
    restart_peak(device)
    watch = Stopwatch(device)
    for _ in range(repeats):
        once()
    seconds = watch.stop() / repeats
    flops = 3.5 * 4 * way.pairs * query_heads * width  # two products forward, five backward
    rate = {"own_tflops": flops / seconds / 1e12, "peak_gib": peak_gib(device)}
    return {"ms": 1e3 * seconds, "positions": way.tokens, **rate}
