"""Does a layer tell better responses from worse ones? Accuracies on held-out pairs, with controls."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

STEPS = 100


class PairStates(NamedTuple):
    """States of pairs, averaged over the tokens of each response."""

    chosen: Float[Tensor, "pair layer hidden"]
    rejected: Float[Tensor, "pair layer hidden"]
    chosen_lengths: Float[Tensor, " pair"]
    rejected_lengths: Float[Tensor, " pair"]

    @property
    def differences(self) -> Float[Tensor, "pair layer hidden"]:
        """Return chosen less rejected."""
        return self.chosen - self.rejected


class Accuracy(NamedTuple):
    """Share of pairs ranked right, with a 95 % bootstrap interval over pairs."""

    value: float
    low: float
    high: float


def accuracy_of(margins: Float[Tensor, " pair"], resamples: int = 1000) -> Accuracy:
    """Return how often a margin is positive; a margin of 0 counts as half."""
    right = (margins > 0).double() + 0.5 * (margins == 0).double()
    draw = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(right), (resamples, len(right)), generator=draw)
    means = right.cpu()[drawn].mean(1).sort().values
    return Accuracy(right.mean().item(), means[int(0.025 * resamples)].item(), means[int(0.975 * resamples) - 1].item())


def length_accuracy(pairs: PairStates) -> Accuracy:
    """Return the accuracy of calling the longer response the better one: what a direction has to beat."""
    return accuracy_of(pairs.chosen_lengths.double() - pairs.rejected_lengths.double())


def projected(pairs: PairStates, direction: Float[Tensor, "layer hidden"]) -> list[Accuracy]:
    """Return, by layer, the accuracy of the projection on a direction."""
    margins = torch.einsum("plh,lh->pl", pairs.differences.float(), F.normalize(direction.float(), dim=-1))
    return [accuracy_of(column) for column in margins.unbind(1)]


def random_control(pairs: PairStates, seed: int = 0) -> list[Accuracy]:
    """Return the accuracies of a random direction; one half is expected, with the sign as it falls."""
    shape = pairs.chosen.shape[1:]
    return projected(pairs, torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(pairs.chosen.device))


def fit_probe(pairs: PairStates, decay: float = 1e-2, shuffled: int | None = None) -> Float[Tensor, "layer hidden"]:
    """Return a logistic probe by layer: the weights that separate chosen from rejected states, by their differences.

    A pair and its mirror image have no intercept, so there is none. Features are scaled to unit spread; `decay` is the
    L2 penalty on the weights. `shuffled` is a seed that draws the sign of every pair, for the control without labels.
    """
    differences = pairs.differences.float()
    scale = differences.pow(2).mean(0, keepdim=True).sqrt().clamp_min(1e-8)
    inputs = differences / scale
    if shuffled is not None:
        signs = torch.randint(2, (len(inputs), 1, 1), generator=torch.Generator().manual_seed(shuffled)) * 2 - 1
        inputs = inputs * signs.to(inputs)
    weights = torch.zeros(inputs.shape[1:], device=inputs.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        margins = torch.einsum("plh,lh->pl", inputs, weights)
        loss = F.softplus(-margins).mean(0).sum() + decay * weights.pow(2).sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (weights / scale[0]).detach()
