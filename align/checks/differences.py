"""Two computations of the same numbers, compared in values and in gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

SMALL_SHARE = 0.01
"""A parameter whose gradient is a smaller share of the whole is measured against this share: that of a key's bias, say,
is 0 but for rounding."""


MOST_ON_CPU = 2**24
"""Gradients of more numbers than this are compared in part on a CPU: a fault inside reaches those of all before it."""


class Computed(NamedTuple):
    """Numbers, and the gradient of a fixed random weighting of them."""

    values: Tensor
    gradients: list[Tensor | None]
    """By trained parameter, None where it has none."""


class Difference(NamedTuple):
    """How far one computation is from another, both relative; infinite where a side is not finite."""

    values: float
    gradients: float

    def within(self, bound: Difference) -> bool:
        """Tell whether both are at most what a bound allows."""
        return self.values <= bound.values and self.gradients <= bound.gradients

    def __str__(self) -> str:
        return f"values off by {self.values:.1e}, gradients by {self.gradients:.1e}"


def compute(model: nn.Module, function: Callable[[], Tensor], *, gradients: bool) -> Computed:
    """Return what a function of the model gives; the model's `grad` fields stay as they were: empty."""
    if not gradients:
        with torch.no_grad():
            return Computed(function().double(), [])
    # before a forward pass: after it a sharded model has gathered weights in some places, which get no gradient
    parameters = _some([p for p in model.parameters() if p.requires_grad])
    values = function()
    stream = torch.Generator().manual_seed(0)
    weights = torch.randn(len(values), generator=stream).to(values)
    return Computed(values.detach().double(), _gradients((values * weights).sum(), parameters))


def _some(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return all parameters, or on a CPU so many, spread over the model, that they are soon compared."""
    if not parameters or parameters[0].device.type != "cpu" or any(isinstance(p, DTensor) for p in parameters):
        return parameters
    every = -(-sum(p.numel() for p in parameters) // MOST_ON_CPU)
    return [p for p in parameters[::every] if p.numel() <= MOST_ON_CPU] or parameters[-1:]


def _gradients(total: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
    if not any(isinstance(p, DTensor) for p in parameters):
        return list(torch.autograd.grad(total, parameters, allow_unused=True))  # no hook of DDP sees it
    total.backward()  # type: ignore[no-untyped-call]  # a sharded parameter is no part of the graph: its hooks fill `grad`
    found = [None if p.grad is None else p.grad.to_local() for p in parameters]  # type: ignore[attr-defined]
    for p in parameters:
        p.grad = None
    return found


def compare(ours: Computed, plain: Computed, *, least: float, everywhere: bool) -> Difference:
    """Return how far ours are from the plain ones.

    Args:
        ours: One side.
        plain: The other.
        least: Values smaller than this are measured against it.
        everywhere: All ranks call this, and get the largest difference any of them sees.
    """
    error = (ours.values - plain.values).square().mean().sqrt()
    scale = plain.values.square().mean().sqrt().clamp_min(least)
    gradients = _gradient_difference(_squares(ours, plain), everywhere=everywhere).to(error)
    found = torch.stack([error / scale, gradients]).nan_to_num(nan=torch.inf)
    if everywhere and dist.is_initialized():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return Difference(*found.tolist())


def _squares(ours: Computed, plain: Computed) -> Float[Tensor, "parameter 2"]:
    """Return for every parameter the squared norms of the difference and of the plain gradient, where there is one."""
    rows = []
    for own, other in zip(ours.gradients, plain.gradients, strict=True):
        given = own if own is not None else other
        if given is not None:
            zero = torch.zeros_like(given)
            own, other = (zero if g is None else g for g in (own, other))
            rows.append(torch.stack([_square(own - other), _square(other)]))
    return torch.stack(rows) if rows else torch.zeros(1, 2, dtype=torch.float64, device=plain.values.device)


def _square(gradient: Tensor) -> Tensor:
    """Return the squared norm; of 16-bit gradients in float32."""
    wide = torch.promote_types(gradient.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(gradient, dtype=wide)
    return norm.double().square()


def _gradient_difference(squares: Float[Tensor, "parameter 2"], *, everywhere: bool) -> Tensor:
    """Return the largest relative difference of a parameter's gradient."""
    if everywhere and dist.is_initialized():
        dist.all_reduce(squares)  # shards of a parameter add up; whole ones are the same on every rank
    errors, norms = squares.sqrt().unbind(1)
    return (errors / norms.clamp_min(float(SMALL_SHARE * norms.norm())).clamp_min(1e-30)).max()
