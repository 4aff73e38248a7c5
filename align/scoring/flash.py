"""Flash attention over sequences of several lengths, forward and backward, by the kernels that torch has.

The backward pass is called by itself, with outputs and log-sum-exps that may have been merged with those of other keys:
the gradient of each part is then that of the whole (as in ring attention, Liu et al. 2023, arXiv:2310.01889).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int32
from torch import Tensor

_ATEN = torch.ops.aten
_HALF = (torch.float16, torch.bfloat16)


class Sequences(NamedTuple):
    """Sequences of queries and the keys that each sees; one begins where the one before ends."""

    queries: Int32[Tensor, " sequence+1"]
    keys: Int32[Tensor, " sequence+1"]
    longest_query: int
    longest_key: int
    causal: bool


def takes(query: Tensor, *widths: int) -> bool:
    """Tell whether there is a kernel for these queries and widths of heads."""
    if query.device.type == "cuda":
        return query.dtype in _HALF and max(widths) <= 256
    return query.device.type == "cpu"


class Attended(NamedTuple):
    """What attention gave."""

    out: Float[Tensor, "query head width"]
    lse: Float[Tensor, "head query"]
    """Log-sum-exp of the scores, in float32 at least."""


@lru_cache
def tell_slow(device: str, dtype: torch.dtype, width: int, dropout: bool) -> None:
    """Say once why a GPU takes its time: on a CPU the parts cost what the kernels do."""
    if device != "cpu":
        why = "dropout in attention" if dropout else f"{dtype} and heads of {width}"
        warnings.warn(
            f"attention over packed rows runs part by part: {device} has no flash kernel for {why}; 16-bit precision "
            "(trainer.precision bf16-mixed), heads of at most 256 and no dropout have one",
            stacklevel=2,
        )


def forward(
    q: Float[Tensor, "query head width"],
    k: Float[Tensor, "key keyhead width"],
    v: Float[Tensor, "key keyhead width"],
    sequences: Sequences,
    scale: float,
) -> Attended:
    """Return the attention of every sequence."""
    s = sequences
    if q.device.type == "cuda":
        ends = (s.queries, s.keys, s.longest_query, s.longest_key)
        out, lse, *_ = _ATEN._flash_attention_forward(q, k, v, *ends, 0.0, s.causal, False, scale=scale)
        return Attended(out, lse)
    out, lse = torch.empty_like(q), q.new_empty(q.shape[1], q.shape[0])
    for own, seen in _pairs(s):
        parts = (_heads(values) for values in (q[own], k[seen], v[seen]))
        found = _ATEN._scaled_dot_product_flash_attention_for_cpu(*parts, 0.0, s.causal, scale=scale)
        out[own], lse[:, own] = found[0][0].transpose(0, 1), found[1][0]
    return Attended(out, lse)


def backward(
    gradient: Float[Tensor, "query head width"],
    inputs: tuple[Tensor, Tensor, Tensor],
    attended: Attended,
    sequences: Sequences,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values: `inputs`, as in `forward`."""
    s, (q, k, v), (out, lse) = sequences, inputs, attended
    if q.device.type == "cuda":
        ends = (s.queries, s.keys, s.longest_query, s.longest_key)
        unread = torch.empty(2, dtype=torch.uint64, device=q.device)  # the state of dropout, of which there is none
        found: tuple[Tensor, Tensor, Tensor] = _ATEN._flash_attention_backward(
            gradient, q, k, v, out, lse, *ends, 0.0, s.causal, unread, unread.new_empty(()), scale=scale
        )
        return found
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for own, seen in _pairs(s):
        parts = (_heads(values) for values in (gradient[own], q[own], k[seen], v[seen], out[own]))
        of_q, of_k, of_v = _ATEN._scaled_dot_product_flash_attention_for_cpu_backward(
            *parts, lse[None, :, own], 0.0, s.causal, scale=scale
        )
        dq[own], dk[seen], dv[seen] = (values[0].transpose(0, 1) for values in (of_q, of_k, of_v))
    return dq, dk, dv


def _pairs(sequences: Sequences) -> Iterator[tuple[slice, slice]]:
    """Return queries and keys of every sequence."""
    queries, keys = sequences.queries.tolist(), sequences.keys.tolist()
    for place in range(len(queries) - 1):
        yield slice(queries[place], queries[place + 1]), slice(keys[place], keys[place + 1])


def _heads(values: Float[Tensor, "token head width"]) -> Float[Tensor, "1 head token width"]:
    return values.transpose(0, 1)[None]
