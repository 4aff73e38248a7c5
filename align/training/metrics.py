"""Means over the micro-batches and ranks of an optimiser step, or over a validation run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor

from align.transfer import tensor_on


class _Recorded(NamedTuple):
    """What was recorded under a name, not yet summed."""

    name: str
    values: Float[Tensor, " value"]
    weights: Tensor | float
    keep_nan: bool


class Means:
    """Weighted sums by name, in float64; nothing waits for the device until they are read, once, all together.

    Values are kept until the end of a micro-batch (`fold`), and those of one length summed as the rows of a matrix: a
    dozen kernels, however many names there are.
    """

    def __init__(self) -> None:
        self._recorded: list[_Recorded] = []
        self._sums: dict[tuple[str, ...], Float[Tensor, "name 2"]] = {}
        self._directions: dict[str, Float[Tensor, " hidden+2"]] = {}

    def add(self, name: str, values: Tensor, weights: Tensor | float = 1.0, *, keep_nan: bool = False) -> None:
        """Add values with weights to a mean; NaN says that a value is missing, unless it is to be kept."""
        self._recorded.append(_Recorded(name, _floats(values), weights, keep_nan))

    @torch.no_grad()
    def add_directions(
        self, name: str, vectors: Float[Tensor, "value hidden"], weights: Float[Tensor, " value"]
    ) -> None:
        """Add weighted vectors, of which `|mean v|^2 / mean |v|^2` is read: 1 where all of them are the same.

        That of the whole follows from no shares of its parts, so that the vectors are summed.
        """
        weights = weights.to(vectors.dtype)
        energy = weights @ vectors.norm(dim=1).square()
        found = torch.cat([weights @ vectors, torch.stack([energy, weights.sum()])]).double()
        self._directions[name] = self._directions[name] + found if name in self._directions else found

    @torch.no_grad()
    def fold(self) -> None:
        """Sum what was recorded since the last time; names recorded again and again are added up as one vector."""
        alike: dict[tuple[int, bool], list[_Recorded]] = {}
        for found in self._recorded:
            alike.setdefault((len(found.values), found.keep_nan), []).append(found)
        self._recorded = []
        if not alike:
            return
        names = tuple(found.name for rows in alike.values() for found in rows)
        sums = torch.cat([_sums(rows) for rows in alike.values()])
        self._sums[names] = self._sums[names] + sums if names in self._sums else sums

    @torch.no_grad()
    def read(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Return all means of which a value is known, on the CPU, summed over ranks by `reduce`, and start again."""
        self.fold()
        names = sorted({name for part in self._sums for name in part})
        directions = {name: self._directions[name] for name in sorted(self._directions)}
        if not names:
            return {}
        parts = torch.cat(list(self._sums.values()))
        places = tensor_on(parts.device, [names.index(name) for part in self._sums for name in part])
        self._sums, self._directions = {}, {}
        own = parts.new_zeros(len(names), 2).index_add(0, places, parts)
        everyone = reduce(torch.cat([own.flatten(), *directions.values()]))
        of_names, *rest = torch.split(everyone, [own.numel(), *map(len, directions.values())])
        sums = torch.cat([of_names.view(-1, 2), *map(_agreement, rest)]).tolist()
        return {
            name: torch.tensor(total / weight, dtype=torch.float32)
            for name, (total, weight) in zip([*names, *directions], sums, strict=True)
            if weight > 0
        }


def _agreement(sums: Float[Tensor, " hidden+2"]) -> Float[Tensor, "1 2"]:
    """Return the share of directions and its weight, from the sums of vectors, their squares and weights."""
    total, energy, weight = sums[:-2], sums[-2], sums[-1]
    share = total.square().sum() / (weight * energy).clamp_min(1e-12)
    return torch.stack([share * weight, weight])[None]


def _floats(values: Tensor) -> Tensor:
    values = values.detach().flatten()
    return values if values.is_floating_point() else values.float()


def _sums(rows: list[_Recorded]) -> Float[Tensor, "name 2"]:
    """Return the weighted sum of the known values of every row, and the weight of these."""
    values, weights = torch.stack([row.values for row in rows]), _weights(rows)
    if not rows[0].keep_nan:
        weights = weights.masked_fill(values.isnan(), 0)
    weighted = values.masked_fill(weights == 0, 0) * weights
    return torch.stack([weighted.sum(1), weights.expand_as(values).sum(1)], dim=1)


def _weights(rows: list[_Recorded]) -> Float[Tensor, "name value"]:
    """Return the weights of every row in float64, one row for all where they are the same."""
    first, like = rows[0].weights, rows[0].values
    if all(row.weights is first for row in rows):
        return _row(first, like)[None].double()
    return torch.stack([_row(row.weights, like) for row in rows]).double()


def _row(weights: Tensor | float, like: Tensor) -> Float[Tensor, " value"]:
    made = weights.detach().to(like.device) if isinstance(weights, Tensor) else like.new_full((1,), weights)
    return made.flatten().expand_as(like)


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together, sharded ones (DTensor) gathered."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
