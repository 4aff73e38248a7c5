"""The losses of the peer, those of our modules written down again."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of log-probabilities by policy and reference, and of lengths, of all candidates."""


def pair_loss(policy: Tensor, reference: Tensor, sizes: Tensor) -> Tensor:
    """Return DPO's mean loss, beta 0.1."""
    margins = (policy - reference).view(-1, 2)
    return -F.logsigmoid(0.1 * (margins[:, 0] - margins[:, 1])).mean()


def list_loss(size: int) -> Loss:
    """Return the mean loss of whole lists, best first: every response against those after it (PRO without rewards)."""

    def loss(policy: Tensor, reference: Tensor, sizes: Tensor) -> Tensor:
        scores = (policy / sizes).view(-1, size)
        later = scores.flip(1).logcumsumexp(1).flip(1)
        return (later - scores).sum(1).mean() - 0.05 * (size - 1) ** 2 * policy.view(-1, size)[:, 0].mean()

    return loss
