"""How well predictions agree with labels over a whole validation run, whatever the batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

MIDDLE = 50.0
"""Sums are of distances from here, which loses no digits to a mean far from 0: labels are points from 0 to 100."""
ROUNDING = 1e-12
"""A variance below this share of the mean square of these distances is rounding: all values are the same."""


class LabelCorrelation(Metric):
    """Pearson's correlation of every attribute, each row by its weight (torchmetrics' own takes none), and its labels.

    It is kept as weighted sums in float64, which torchmetrics adds up over all ranks.
    """

    sums: Float[Tensor, "attribute 7"]
    full_state_update = False

    def __init__(self, attributes: Sequence[str]) -> None:
        super().__init__()
        self.attributes = tuple(attributes)
        self.set_dtype(torch.float64)
        self.add_state("sums", torch.zeros(len(self.attributes), 7, dtype=torch.float64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(
        self,
        points: Float[Tensor, "candidate attribute"],
        targets: Float[Tensor, "candidate attribute"],
        weights: Float[Tensor, " candidate"],
    ) -> None:
        """Add a batch; NaN targets and rows of weight 0 are left out."""
        known = ~targets.isnan() & (weights > 0)[:, None]
        x, y = ((values.double() - MIDDLE).where(known, 0) for values in (points, targets))
        own = weights.double()[:, None] * known
        self.sums += torch.stack(
            [known.sum(0), *((own * part).sum(0) for part in (1, x, y, x * x, y * y, x * y))], dim=1
        )

    def compute(self) -> dict[str, Tensor]:
        """Return what was found, over all ranks; an attribute with one label has no correlation."""
        found: dict[str, Tensor] = {}
        for name, (number, weight, *moments) in zip(self.attributes, self.sums.cpu(), strict=True):
            if number > 0:
                found[f"n_obs/{name}"] = number.float()
            if number > 1 and (value := _correlation(*(moment / weight for moment in moments))) is not None:
                found[f"pearson/{name}"] = value.float()
        return found

    def read(self) -> dict[str, Tensor]:
        """Return the same, also on a rank that has added nothing, and start again."""
        nothing = self.sums.new_zeros(0, len(self.attributes))
        self.update(nothing, nothing, nothing[:, 0])  # torchmetrics warns of what was never added to
        found = self.compute()
        self.reset()
        return found


def _correlation(x: Tensor, y: Tensor, xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor | None:
    """Return the correlation of means of values, squares and products; None where x or y is always the same."""
    varies = [square - mean**2 for mean, square in ((x, xx), (y, yy))]
    if any(bool(variance <= ROUNDING * square) for variance, square in zip(varies, (xx, yy), strict=True)):
        return None
    return ((xy - x * y) / (varies[0] * varies[1]).sqrt()).clamp(-1, 1)
