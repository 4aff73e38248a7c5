"""The losses of the peer, those of our modules written down again."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of log-probabilities by policy and reference, and of lengths, of all candidates."""


def pair_loss(policy: Tensor, reference: Tensor, sizes: Tensor) -> Tensor:
    """Return DPO's mean loss, beta 0.1."""
    margins = (policy - reference).view(-1, 2)
    return -F.logsigmoid(0.1 * (margins[:, 0] - margins[:, 1])).mean()


def list_loss(size: int) -> Loss:
    """Return PRO's mean loss of lists, best first, whose rewards fall from 1 in steps of one part of their size."""
    place = torch.arange(size)
    behind = (place[None] - place[:, None]).clamp(min=0)  # k's distance to i: Eq. 10's gap, in parts of the size
    tau = (behind + torch.diag(size - 1 - place)) / size
    hidden = torch.where(place[None] < place[:, None], -torch.inf, 0.0)

    def loss(policy: Tensor, reference: Tensor, sizes: Tensor) -> Tensor:
        scores = (policy / sizes).view(-1, 1, size)
        logits = tau.to(policy.device, non_blocking=True) * scores + hidden.to(policy.device, non_blocking=True)
        terms = logits.logsumexp(2) - logits.diagonal(dim1=1, dim2=2)  # the last is 0
        return terms.sum(1).mean() - 0.05 * (size - 1) ** 2 * policy.view(-1, size)[:, 0].mean()

    return loss
