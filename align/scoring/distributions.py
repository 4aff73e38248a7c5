"""Statistics of whole next-token distributions at response positions, where a log-probability is not enough."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from align.records import CandidateBatch
from align.scoring.decoder import head, hidden_states
from align.scoring.head import Head
from align.scoring.responses import plan


class TokenStatistics(NamedTuple):
    """One number per scored token, candidate after candidate."""

    logprobs: Float[Tensor, " token"]
    vocabulary_means: Float[Tensor, " token"]
    """Mean log-probability over the vocabulary: what label smoothing adds."""
    entropies: Float[Tensor, " token"]
    divergences: Float[Tensor, " token"]
    """KL from reference to model; 0 without a reference."""
    counts: Int[Tensor, " candidate"]


class ReferenceStates(NamedTuple):
    """What a reference says of every scored token, before its head is applied."""

    hidden: Float[Tensor, "token hidden"]
    """The last hidden states that predict scored tokens."""
    top: Head


def reference_states(model: nn.Module, batch: CandidateBatch, layout: str = "auto") -> ReferenceStates:
    """Return a reference's states, to compare with later; a head that is trained has to be another model's."""
    laid_out = plan(model, batch, layout)
    return ReferenceStates(hidden_states(model, laid_out)[laid_out.predictors], head(model))


def token_statistics(
    model: nn.Module,
    batch: CandidateBatch,
    *,
    layout: str = "auto",
    logit_bytes: int = 2**30,
    reference: ReferenceStates | None = None,
) -> TokenStatistics:
    """Return statistics of every scored token."""
    laid_out = plan(model, batch, layout)
    hidden = hidden_states(model, laid_out)[laid_out.predictors]
    top = head(model)
    rows = max(logit_bytes // (24 * top.vocab_size), 1)  # three matrices of 4 bytes and their gradients
    other = torch.split(reference.hidden, rows) if reference is not None else [None] * len(laid_out.targets)
    their_top = None if reference is None else reference.top
    parts = []
    for own, targets, theirs in zip(
        torch.split(hidden, rows), torch.split(laid_out.targets, rows), other, strict=False
    ):
        arguments = (top, own, targets, their_top, theirs)
        tiled = len(hidden) > rows
        parts.append(checkpoint(_statistics, *arguments, use_reentrant=False) if tiled else _statistics(*arguments))
    logprobs, means, entropies, divergences = torch.cat(parts, dim=1)
    return TokenStatistics(logprobs, means, entropies, divergences, laid_out.counts)


def _statistics(top: Head, hidden: Tensor, targets: Tensor, their_top: Head | None, reference: Tensor | None) -> Tensor:
    table = top.logits(hidden).log_softmax(-1)
    own = table.gather(1, targets[:, None])[:, 0]
    divergence = torch.zeros_like(own)
    if reference is not None and their_top is not None:
        with torch.no_grad():
            theirs = their_top.logits(reference).log_softmax(-1)
        divergence = (theirs.exp() * (theirs - table)).sum(-1)
    return torch.stack([own, table.mean(-1), -(table.exp() * table).sum(-1), divergence])
