"""How well predictions agree with labels over a whole validation run, exactly, whatever the batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import PearsonCorrCoef, SumMetric


class LabelCorrelation(nn.Module):
    """Pearson's correlation and the number of labels of every attribute."""

    def __init__(self, attributes: Sequence[str]) -> None:
        super().__init__()
        self.attributes = tuple(attributes)
        self.correlations = nn.ModuleList(PearsonCorrCoef() for _ in attributes)
        self.counts = nn.ModuleList(SumMetric() for _ in attributes)
        for metric in (*self.correlations, *self.counts):
            metric.set_dtype(torch.float64)

    def add(self, points: Float[Tensor, "candidate attribute"], targets: Float[Tensor, "candidate attribute"]) -> None:
        """Add a batch; NaN targets are left out."""
        known = ~targets.isnan()
        for k, (correlation, count) in enumerate(self._metrics()):
            if (own := known[:, k]).any():
                correlation.update(points[own, k].detach().double(), targets[own, k].double())
                count.update(own.sum().double())

    def read(self) -> dict[str, Tensor]:
        """Return what was found, over all ranks, and start again; an attribute with one label has no correlation."""
        found: dict[str, Tensor] = {}
        for name, (correlation, count) in zip(self.attributes, self._metrics(), strict=True):
            number = count.compute()
            if number > 0:
                found[f"n_obs/{name}"] = number.float()
            if number > 1 and (value := correlation.compute()).isfinite():
                found[f"pearson/{name}"] = value.float()
            correlation.reset()
            count.reset()
        return found

    def _metrics(self) -> list[tuple[Any, Any]]:
        return list(zip(self.correlations, self.counts, strict=True))
