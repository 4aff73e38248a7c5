"""Which blocks of a packed row FlexAttention has to look at, by arithmetic on its bounds: no dense mask is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from align.scoring.placement import Bounds
from align.scoring.row_marks import ALONE, RowMarks, marks_of, parts_of
from align.transfer import to_device

BLOCK = 128
"""Positions of a block, of queries and of keys."""


class Blocks(NamedTuple):
    """Blocks `[query, key]` of which something is seen, and those of them of which all is."""

    some: Bool[NDArray[np.bool_], "query key"]
    whole: Bool[NDArray[np.bool_], "query key"]


@lru_cache(maxsize=8)
def block_mask(bounds: Bounds, window: int | None, device: torch.device) -> BlockMask:
    """Return the mask of a row under a window; what it is made of travels to the device in one piece."""
    marks, blocks = marks_of(bounds), blocks_of(bounds, window)
    partial = blocks.some & ~blocks.whole
    held = [np.stack(marks), partial.sum(1), _in_order(partial), blocks.whole.sum(1), _in_order(blocks.whole)]
    together = to_device(torch.from_numpy(np.concatenate([part.ravel() for part in held]).astype(np.int32)), device)
    there = torch.split(together, [part.size for part in held])
    places, *lists = (part.view(own.shape) for part, own in zip(there, held, strict=True))
    counts, columns, whole_counts, whole_columns = (part[None, None] for part in lists)
    size = len(marks.segment)
    return BlockMask.from_kv_blocks(
        counts,
        columns,
        whole_counts,
        whole_columns,
        BLOCK_SIZE=BLOCK,
        mask_mod=_seen(places, size if window is None else window),
        seq_lengths=(size, size),
    )


def _seen(places: Tensor, window: int) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    segment, parent, position = places

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (segment[query] == segment[key]) & (key <= query)
        above = parent[query] == segment[key]
        found: Tensor = (own | above) & (position[query] - position[key] < window)
        return found

    return seen


def _in_order(grid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the marked columns of each row, in order, before all others."""
    return np.argsort(~grid, axis=1, kind="stable")


def blocks_of(bounds: Bounds, window: int | None) -> Blocks:
    """Return the blocks of a row under a window."""
    marks = marks_of(bounds)
    size = len(marks.segment)
    count = -(-size // BLOCK)
    some = np.zeros((count, count), np.bool_)
    for start, stop, prompt, _ in parts_of(bounds):
        if stop > start:
            own = slice(start // BLOCK, (stop - 1) // BLOCK + 1)
            some[own, own] |= np.tri(own.stop - own.start, dtype=np.bool_) & _near(own, own, 0, window)
            if prompt is not None:
                above = slice(prompt[0] // BLOCK, (prompt[1] - 1) // BLOCK + 1)
                some[own, above] |= _near(own, above, start - prompt[1], window)
    return Blocks(some, _whole(marks, count, window) & some)


def _near(queries: slice, keys: slice, between: int, window: int | None) -> NDArray[np.bool_]:
    """Tell which blocks may hold a key inside the window of a query: places differ by `between` more than positions."""
    first, last = np.arange(queries.start, queries.stop) * BLOCK, np.arange(keys.start, keys.stop) * BLOCK + BLOCK - 1
    apart = first[:, None] - last - between
    return np.ones_like(apart, np.bool_) if window is None else apart < window


def _whole(marks: RowMarks, count: int, window: int | None) -> NDArray[np.bool_]:
    """Tell which blocks see all of which; one that the row's end cuts does not."""
    full = len(marks.segment) // BLOCK
    lows, highs = (
        [reduce(part[: full * BLOCK].reshape(full, BLOCK), axis=1) for part in marks] for reduce in (np.min, np.max)
    )
    alike = [low == high for low, high in zip(lows, highs, strict=True)]
    segment, parent = lows[0], lows[1]
    own = (alike[0][:, None] & alike[0]) & (segment[:, None] == segment) & np.tri(full, k=-1, dtype=np.bool_)
    above = (alike[1] & (parent != ALONE))[:, None] & alike[0] & (parent[:, None] == segment)
    seen = own | above
    if window is not None:
        seen &= highs[2][:, None] - lows[2] < window
    found = np.zeros((count, count), np.bool_)
    found[:full, :full] = seen
    return found
