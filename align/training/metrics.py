"""Means over the micro-batches and ranks of an optimiser step, or over a validation run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


class Means:
    """Weighted sums by name; one reduction over ranks when they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor, weights: Tensor | float = 1.0, *, keep_nan: bool = False) -> None:
        """Add values with weights to a mean; NaN says that a value is missing, unless it is to be kept."""
        values = values.detach().double().flatten()
        weights = torch.as_tensor(weights, dtype=torch.float64, device=values.device).expand_as(values)
        known = ~values.isnan()
        if keep_nan:
            known |= weights > 0
        entry = torch.stack([(values.where(known, 0) * weights).sum(), (weights * known).sum()])
        self._sums[name] = self._sums[name] + entry if name in self._sums else entry

    def read(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Return all means of which a value is known, summed over ranks by `reduce`, and start again."""
        names = sorted(self._sums)
        if not names:
            return {}
        sums = reduce(torch.stack([self._sums[name] for name in names]))
        self._sums = {}
        known = (sums[:, 1] > 0).tolist()
        means = (sums[:, 0] / sums[:, 1]).float()
        return {name: mean for name, mean, there in zip(names, means, known, strict=True) if there}


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together, sharded ones (DTensor) gathered."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
