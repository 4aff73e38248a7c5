"""How far two right computations may lie apart, by the precision they run in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from align.checks.differences import Difference
from align.scoring.decoder import unwrapped
from align.scoring.short_linear import ShortLinear


class Tolerance(NamedTuple):
    """Bounds on relative differences: below `right` nothing is wrong, above `wrong` something is.

    Between the two decides the model's own rounding, which is measured: the same rows alone, and in a padded batch
    whose embeddings are rounded otherwise.
    """

    precision: str
    right: Difference
    wrong: Difference

    def bound(self, noise: Difference) -> Difference:
        """Return the largest difference that may be rounding, for a model with this much of it."""
        limits = zip(self.right, noise, self.wrong, strict=True)
        return Difference(*(min(max(right, 4 * own), wrong) for right, own, wrong in limits))


TOLERANCES = {
    torch.float64: Tolerance("float64", Difference(1e-6, 1e-5), Difference(1e-4, 1e-3)),
    torch.float32: Tolerance("float32", Difference(1e-4, 1e-3), Difference(2e-3, 5e-3)),
    torch.float16: Tolerance("float16", Difference(2e-3, 2e-2), Difference(2e-2, 1e-1)),
    torch.bfloat16: Tolerance("bfloat16", Difference(1e-2, 1e-1), Difference(1e-1, 5e-1)),
}
"""Ten architectures of two layers, weights of standard deviation .02 to .3, differ by at most 2e-8 and 3e-7, 1e-7 and
4e-6, 2e-4 and 5e-2, 9e-4 and 4e-2 (values and gradients) between right layouts; deep models round more."""


def tolerance_of(model: nn.Module) -> Tolerance:
    """Return the bounds for the precision a model runs in here and now."""
    return TOLERANCES[compute_dtype(model)]


@contextmanager
def rounded_embeddings(model: nn.Module) -> Iterator[None]:
    """Give out embeddings that differ by a last digit of what the model computes in, up or down by a fixed draw."""
    digit = torch.finfo(compute_dtype(model)).eps

    def nudge(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        draw = torch.rand(out.shape[-1], generator=torch.Generator().manual_seed(0)).mul_(2).sub_(1)
        return (out * (1 + digit * draw.to(out.device, torch.promote_types(out.dtype, torch.float32)))).to(out.dtype)

    handle = unwrapped(model).get_input_embeddings().register_forward_hook(nudge)
    try:
        yield
    finally:
        handle.remove()


def compute_dtype(model: Any) -> torch.dtype:
    """Return the dtype of matrix products: that of autocast, of the weights, or of TF32, which rounds as float16.

    Frozen layers that are held in bfloat16 compute in the dtype of what they are given: that of the other weights.
    """
    device = next(model.parameters()).device.type
    if torch.is_autocast_enabled(device):
        chosen: torch.dtype = torch.get_autocast_dtype(device)
        return chosen
    held = {id(p) for part in model.modules() if isinstance(part, ShortLinear) for p in part.parameters()}
    dtypes = {p.dtype for p in model.parameters() if id(p) not in held} & TOLERANCES.keys()
    found: torch.dtype = max(dtypes or {torch.bfloat16}, key=lambda dtype: TOLERANCES[dtype].right.values)
    if found == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return torch.float16 if device == "cuda" or torch.get_float32_matmul_precision() == "high" else torch.bfloat16
    return found
