"""A packed row of candidate groups: prompts once, their responses over them, every other row by itself.

Attention over it is a cascade of flash kernels (`align.scoring.cascade`); what these do not compute is for
FlexAttention (`align.scoring.flex_rows`), or for one dense call per part.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from align.scoring import flash
from align.scoring.attention_rule import PLAIN_RULE, AttentionRule
from align.scoring.cascade import Cascade
from align.scoring.flex_rows import flex_attend, flex_serves
from align.scoring.placement import Bounds
from align.scoring.row_marks import parts_of
from align.scoring.segment_attention import segment_attention


class PackedRow:
    """Where prompts, responses and whole rows lie in a packed row."""

    def __init__(self, bounds: Bounds, ends: Int32[Tensor, " bound"]) -> None:
        """Keep the bounds, and all of them in one tensor on the model's device."""
        self.bounds, self.ends = bounds, ends
        longest = [max((b - a for a, b in itertools.pairwise(part)), default=0) for part in bounds]
        self.sizes = torch.tensor([len(bounds.prompts), bounds.prompts[-1], bounds.trees[-1], *longest])
        self.longest = max(part.stop - part.start + part.before for part in parts_of(bounds))
        """Tokens of the longest candidate, its prompt among them."""
        self.asked = 0
        """How often attention was computed over it."""
        self.windows_told = True
        """Whether every layer that looks back no further than its window has said so."""

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
        rule: AttentionRule = PLAIN_RULE,
        flex: bool = False,
    ) -> Float[Tensor, "1 position head own"]:
        """Return the attention of every position.

        By flash kernels where the rule is plain; else by FlexAttention on a GPU, and wherever `flex` asks for it; for
        dropout, or where there is no such kernel, by dense calls, one per part.
        """
        self.asked += 1
        if torch.is_autocast_enabled(query.device.type):
            dtype = torch.get_autocast_dtype(query.device.type)
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        rule = rule if rule.window is None else rule.within(self.longest)
        if rule.plain and not flex and not dropout_p and flash.takes(query, query.shape[-1], value.shape[-1]):
            return self._cascade(query, key, value, scale)
        by_flex = not dropout_p and (flex or (query.device.type == "cuda" and not rule.plain))
        found: Tensor = self._by_rule(query, key, value, rule, scale, dropout_p, by_flex)
        return found.transpose(1, 2).contiguous()

    def _cascade(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        dtype = query.dtype
        if query.device.type == "cpu":  # in float32 at least: the gradients of a row's parts may cancel
            query, key, value = (part.to(torch.promote_types(dtype, torch.float32)) for part in (query, key, value))
            if (groups := query.shape[1] // key.shape[1]) > 1:  # not every torch groups heads there
                key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        own = value.shape[-1]  # heads of values may have a width of their own; zeros change neither scores nor outputs
        wide = -max(query.shape[-1], own) // 8 * -8
        q, k, v = (_widened(part[0].transpose(0, 1), wide) for part in (query, key, value))
        output: Tensor = Cascade.apply(q, k, v, self.ends, self.sizes, scale)  # type: ignore[no-untyped-call]
        return output[None, ..., :own].to(dtype)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _by_rule(  # noqa: PLR0917
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rule: AttentionRule,
        scale: float,
        dropout_p: float,
        by_flex: bool,
    ) -> Tensor:
        """Attend outside a compiled decoder, which would be compiled again for every number of candidates.

        What is read of the row is not seen from there, bounds least of all; a compiled FlexAttention stays so.
        """
        if by_flex and flex_serves(query, key, value, rule):
            found: Tensor = flex_attend(query, key, value, self.bounds, rule, scale)
            return found
        width = max(query.shape[-1], value.shape[-1])
        if rule.plain or dropout_p:
            flash.tell_slow(query.device.type, query.dtype, width, bool(dropout_p))
        return segment_attention(query, key, value, self.bounds, rule, scale=scale, dropout_p=dropout_p)


def _widened(values: Tensor, width: int) -> Tensor:
    return values if values.shape[-1] == width else F.pad(values, (0, width - values.shape[-1]))


def carrying(mask: Tensor, load: Any) -> Tensor:
    """Return a mask with something for our attention function on it."""
    mask.carried = load  # type: ignore[attr-defined]
    return mask


def carried(mask: Tensor | None) -> Any:
    """Return what a mask carries, None for a plain one."""
    return getattr(mask, "carried", None)
