"""How far two right computations may lie apart, by the precision they run in."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from align.checks.differences import Difference


class Tolerance(NamedTuple):
    """Bounds on relative differences: below `right` nothing is wrong, above `wrong` something is.

    Between the two decides the model's own rounding, which is measured: the same rows alone and in a padded batch.
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


def compute_dtype(model: Any) -> torch.dtype:
    """Return the dtype of matrix products: that of autocast, of the weights, or of TF32, which rounds as float16."""
    device = next(model.parameters()).device.type
    if torch.is_autocast_enabled(device):
        chosen: torch.dtype = torch.get_autocast_dtype(device)
        return chosen
    dtypes = {p.dtype for p in model.parameters()} & TOLERANCES.keys()
    found: torch.dtype = max(dtypes or {torch.bfloat16}, key=lambda dtype: TOLERANCES[dtype].right.values)
    if found == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return torch.float16 if device == "cuda" or torch.get_float32_matmul_precision() == "high" else torch.bfloat16
    return found
