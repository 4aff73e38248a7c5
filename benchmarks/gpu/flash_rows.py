"""Attention over rows one after another without padding: variable-length flash, as padding-free trainers have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "benchmark_rows"  # a name with flash in it would be looked for among packages


class Ends(NamedTuple):
    """Where rows begin and end, as flash kernels take it."""

    places: Tensor
    """Cumulative lengths from 0, int32."""
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: str) -> Ends:
        """Return the ends of rows of these lengths."""
        places = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        return cls(places.to(device, non_blocking=True), max(lengths))


class _Flash(torch.autograd.Function):
    """Torch's own flash kernels for variable lengths; grouped heads as they are."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, how: tuple[Ends, float | None]) -> Tensor:
        (places, longest), scale = how
        output, lse, state, unused, _ = torch.ops.aten._flash_attention_forward(
            query, key, value, places, places, longest, longest, 0.0, True, False, scale=scale
        )
        ctx.how, ctx.state = how, (state, unused)
        ctx.save_for_backward(query, key, value, output, lse)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (places, longest), scale = ctx.how
        saved = ctx.saved_tensors
        found = torch.ops.aten._flash_attention_backward(
            gradient.contiguous(), *saved, places, places, longest, longest, 0.0, True, *ctx.state, scale=scale
        )
        return *found, None


def flash_rows(query: Tensor, key: Tensor, value: Tensor, ends: Ends, scale: float | None = None) -> Tensor:
    """Return causal attention of every row to itself; tensors are `[token, head, width]`. On a CPU row by row."""
    if query.is_cuda:
        output: Tensor = _Flash.apply(query, key, value, (ends, scale))  # type: ignore[no-untyped-call]
        return output
    lengths = ends.places.diff().tolist()
    rows = zip(*(part.transpose(0, 1)[None].split(lengths, 2) for part in (query, key, value)), strict=True)
    done = [F.scaled_dot_product_attention(*row, is_causal=True, scale=scale, enable_gqa=True) for row in rows]
    return torch.cat(done, 2)[0].transpose(0, 1)


def _interface(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, ends: Ends, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    parts = (part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value))  # angles leave two in float32
    return flash_rows(*parts, ends, scaling)[None], None


def register() -> str:
    """Make it known to transformers and return the name of its `attn_implementation`."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, _interface)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *_, **__: None)
    return NAME
