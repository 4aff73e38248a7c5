"""Values of candidates as the matrix of their groups."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from align.transfer import tensor_on


def matrix_of(
    values: Float[Tensor, " candidate"], sizes: tuple[int, ...], fill: float
) -> Float[Tensor, "group candidate"]:
    """Return values by group and place, `fill` where a group has none."""
    width = max(sizes)
    if min(sizes) == width:
        return values.view(len(sizes), width)
    cells = values.new_full((len(sizes) * width,), fill)
    return cells.index_copy(0, _places(sizes, values.device), values).view(len(sizes), width)


def of_each(values: Float[Tensor, " group"], sizes: tuple[int, ...]) -> Float[Tensor, " candidate"]:
    """Return the value of every candidate's group."""
    if len(set(sizes)) == 1:
        return values.repeat_interleave(sizes[0])
    return values.repeat_interleave(tensor_on(values.device, sizes), output_size=sum(sizes))


def sum_runs(values: Float[Tensor, " token"], counts: Int[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
    """Return the sum of every candidate's run of values; its counts need no check, which would wait for a GPU."""
    return torch.segment_reduce(values, "sum", lengths=counts, unsafe=True)


@lru_cache(maxsize=8)
def _places(sizes: tuple[int, ...], device: torch.device) -> Int[Tensor, " candidate"]:
    """Return the flat cell of every candidate; a batch asks for it once for each of its matrices."""
    width = max(sizes)
    with torch.inference_mode(False):  # a pass with gradients may ask for it next
        return tensor_on(device, [row * width + n for row, size in enumerate(sizes) for n in range(size)])
