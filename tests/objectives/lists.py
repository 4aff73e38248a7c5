"""Score matrices of candidate lists, for the tests of list objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from align.records import ListScores


def lists_of(
    scores: Sequence[Sequence[float]],
    rewards: Sequence[Sequence[float]],
    lengths: Sequence[Sequence[int]] | None = None,
) -> ListScores:
    """Lists by their log-probabilities (of the whole response) and rewards, ranked by reward; shorter ones padded."""
    width = max(map(len, scores))
    pad = lambda rows, fill: [[*row, *[fill] * (width - len(row))] for row in rows]  # noqa: E731
    ranks = [[sorted({-x for x in row}).index(-r) for r in row] for row in rewards]
    lengths = lengths or [[1] * len(row) for row in scores]
    return ListScores(
        torch.tensor(pad(scores, 0.0), dtype=torch.float64),
        torch.tensor(pad(lengths, 1)),
        torch.tensor(pad([[True] * len(row) for row in scores], False)),
        torch.tensor(pad(ranks, 0)),
        torch.tensor(pad(rewards, math.nan), dtype=torch.float64),
    )


def zeros(lists: ListScores) -> ListScores:
    """A reference without a preference."""
    return lists._replace(logprobs=torch.zeros_like(lists.logprobs))


def random_lists(sizes: Sequence[int], seed: int = 0) -> ListScores:
    """Lists of different lengths with falling rewards and responses of different lengths."""
    draw = torch.Generator().manual_seed(seed)
    scores = [(-torch.rand(n, generator=draw) * 3).tolist() for n in sizes]
    rewards = [torch.randn(n, generator=draw).sort(descending=True).values.tolist() for n in sizes]
    lengths = [torch.randint(1, 9, (n,), generator=draw).tolist() for n in sizes]
    return lists_of(
        [[s * n for s, n in zip(a, b, strict=True)] for a, b in zip(scores, lengths, strict=True)], rewards, lengths
    )


def gradient(objective, lists: ListScores, reference: ListScores | None = None) -> Tensor:
    """Gradient of the summed loss with respect to the log-probabilities of the policy."""
    logprobs = lists.logprobs.clone().requires_grad_()
    objective(lists._replace(logprobs=logprobs), reference or zeros(lists)).sum().backward()
    assert logprobs.grad is not None
    return logprobs.grad


def permuted(lists: ListScores, order: Sequence[int]) -> ListScores:
    """The same lists with their columns in another order."""
    return ListScores(*(values[:, list(order)] for values in lists))
