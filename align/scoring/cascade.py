"""Attention over a packed row by three calls of variable-length flash kernels, merged by log-sum-exps.

Prompts are causal. All responses of a prompt attend to it without causality, each response to itself causally, and the
two are merged by the log-sum-exps of their scores (a cascade, as in FlashInfer, Ye et al. 2025, arXiv:2501.01005). As
prompts stand before responses, every part is a slice of the row: nothing is gathered and there is no mask.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.scoring import flash
from align.scoring.flash import Sequences


class _Parts(NamedTuple):
    """A packed row as kernels take it: its slices, and the sequences in them."""

    prompts: slice
    shared: slice
    """Responses of shared prompts."""
    rows: slice
    """These responses and all other rows."""
    first: Sequences
    """Prompts over themselves."""
    above: Sequences
    """Responses over their prompts."""
    own: Sequences
    """Rows over themselves."""


def _parts(ends: Tensor, sizes: Tensor) -> _Parts:
    count, prompt, shared, longest_prompt, longest_tree, longest_row = sizes.tolist()
    prompts, trees, rows = ends[:count], ends[count : 2 * count], ends[2 * count :]
    return _Parts(
        slice(0, prompt),
        slice(prompt, prompt + shared),
        slice(prompt, None),
        Sequences(prompts, prompts, longest_prompt, longest_prompt, True),
        Sequences(trees, prompts, longest_tree, longest_prompt, False),
        Sequences(rows, rows, longest_row, longest_row, True),
    )


@torch.library.custom_op("align::cascade", mutates_args=())
def cascade(  # noqa: PLR0917
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor, sizes: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the attention over a packed row, `[position, head, width]`, and the log-sum-exps, `[head, position]`.

    An operator of its own, so that a compiled model calls it whatever the lengths are.
    """
    p = _parts(ends, sizes)
    found, lse = flash.forward(q[p.rows], k[p.rows], v[p.rows], p.own, scale)
    if not p.prompts.stop:
        return found, lse
    of_first, lse_first = flash.forward(q[p.prompts], k[p.prompts], v[p.prompts], p.first, scale)
    above, lse_above = flash.forward(q[p.shared], k[p.prompts], v[p.prompts], p.above, scale)
    shared = p.shared.stop - p.shared.start
    merged = torch.logaddexp(lse_above, lse[:, :shared])
    share = (lse_above - merged).exp().T[..., None]
    both = torch.lerp(found[:shared].to(lse.dtype), above.to(lse.dtype), share).to(q.dtype)
    return torch.cat([of_first, both, found[shared:]]), torch.cat([lse_first, merged, lse[:, shared:]], 1)


@cascade.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(q.dtype, torch.float32)
    return q.new_empty(q.shape), q.new_empty(q.shape[1], q.shape[0], dtype=wide)


@torch.library.custom_op("align::cascade_backward", mutates_args=())
def cascade_backward(  # noqa: PLR0913, PLR0917
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    ends: Tensor,
    sizes: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values."""
    p = _parts(ends, sizes)

    def part(queries: slice, keys: slice, sequences: Sequences) -> tuple[Tensor, Tensor, Tensor]:
        merged = flash.Attended(out[queries], lse[:, queries].contiguous())
        return flash.backward(gradient[queries], (q[queries], k[keys], v[keys]), merged, sequences, scale)

    own = part(p.rows, p.rows, p.own)
    if not p.prompts.stop:
        return own
    first, above = part(p.prompts, p.prompts, p.first), part(p.shared, p.prompts, p.above)
    shared = p.shared.stop - p.shared.start
    return (
        torch.cat([first[0], above[0] + own[0][:shared], own[0][shared:]]),
        torch.cat([first[1] + above[1], own[1]]),
        torch.cat([first[2] + above[2], own[2]]),
    )


@cascade_backward.register_fake
def _(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


class Cascade(torch.autograd.Function):
    """The operators with their gradient; registering it with them would cost more than a layer's kernels take."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, ends: Tensor, sizes: Tensor, scale: float
    ) -> Tensor:
        """Return the attention, and keep what its gradient needs."""
        out, lse = cascade(q, k, v, ends, sizes, scale)
        ctx.save_for_backward(q, k, v, out, lse, ends, sizes)
        ctx.scale = scale
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """Return the gradients of queries, keys and values."""
        return (*cascade_backward(gradient.contiguous(), *ctx.saved_tensors, ctx.scale), None, None, None)
