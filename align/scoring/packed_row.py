"""Attention over a packed row of candidate groups: prompts once, their responses over them, every other row by itself.

Prompts are causal. All responses of a prompt attend to it without causality, each response to itself causally, and the
two are merged by the log-sum-exps of their scores (a cascade, as in FlashInfer, Ye et al. 2025, arXiv:2501.01005). As
prompts stand before responses, every part is a slice of the row: nothing is gathered and there is no mask.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from align.scoring import flash
from align.scoring.flash import Sequences
from align.scoring.placement import Bounds
from align.scoring.segment_attention import segment_attention


class PackedRow:
    """Where prompts, responses and whole rows lie in a packed row."""

    def __init__(self, bounds: Bounds, ends: Int32[Tensor, " bound"]) -> None:
        """Keep the bounds, and all of them in one tensor on the model's device."""
        self.bounds, self.ends = bounds, ends
        longest = [max((b - a for a, b in itertools.pairwise(part)), default=0) for part in bounds]
        self.sizes = torch.tensor([len(bounds.prompts), bounds.prompts[-1], bounds.trees[-1], *longest])
        self.asked = 0
        """How often attention was computed over it."""

    def placeholder(self, device: torch.device) -> Tensor:
        """Return a mask that brings the row to our attention function.

        A model hands a 4-D mask on as it is, whatever else it hands on. Attention that is not ours finds it closed.
        """
        return carrying(torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device), self)

    def attend(
        self,
        query: Float[Tensor, "1 head position width"],
        key: Float[Tensor, "1 keyhead position width"],
        value: Float[Tensor, "1 keyhead position own"],
        *,
        scale: float | None = None,
        dropout_p: float = 0.0,
    ) -> Float[Tensor, "1 position head own"]:
        """Return the attention of every position; one call per part where torch has no such kernel, or for dropout."""
        self.asked += 1
        if torch.is_autocast_enabled(query.device.type):
            dtype = torch.get_autocast_dtype(query.device.type)
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        widths = (query.shape[-1], value.shape[-1])
        if dropout_p or not flash.takes(query, *widths):
            flash.tell_slow(query.device.type, query.dtype, max(widths), bool(dropout_p))
            found = segment_attention(query, key, value, self.bounds, scale=scale, dropout_p=dropout_p)
            return found.transpose(1, 2).contiguous()
        dtype = query.dtype
        if query.device.type == "cpu":  # in float32 at least: the gradients of a row's parts may cancel
            query, key, value = (part.to(torch.promote_types(dtype, torch.float32)) for part in (query, key, value))
            if (groups := query.shape[1] // key.shape[1]) > 1:  # not every torch groups heads there
                key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        wide = (
            -max(widths) // 8 * -8
        )  # zeros change neither scores nor outputs; heads of values may have a width of their own
        q, k, v = (_widened(part[0].transpose(0, 1), wide) for part in (query, key, value))
        output: Tensor = _Cascade.apply(q, k, v, self.ends, self.sizes, scale)  # type: ignore[no-untyped-call]
        return output[None, ..., : widths[1]].to(dtype)


def _widened(values: Tensor, width: int) -> Tensor:
    return values if values.shape[-1] == width else F.pad(values, (0, width - values.shape[-1]))


def carrying(mask: Tensor, load: Any) -> Tensor:
    """Return a mask with something for our attention function on it."""
    mask.carried = load  # type: ignore[attr-defined]
    return mask


def carried(mask: Tensor | None) -> Any:
    """Return what a mask carries, None for a plain one."""
    return getattr(mask, "carried", None)


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


class _Cascade(torch.autograd.Function):
    """The operators with their gradient; registering it with them would cost more than a layer's kernels take."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ends: Tensor, sizes: Tensor, scale: float) -> Tensor:  # noqa: PLR0917
        out, lse = cascade(q, k, v, ends, sizes, scale)
        ctx.save_for_backward(q, k, v, out, lse, ends, sizes)
        ctx.scale = scale
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        return (*cascade_backward(gradient.contiguous(), *ctx.saved_tensors, ctx.scale), None, None, None)
