"""Statistics of whole next-token distributions at response positions, where a log-probability is not enough."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from align.records import CandidateBatch
from align.scoring.backbone import head, hidden_states
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


def reference_hidden(model: nn.Module, batch: CandidateBatch, layout: str = "auto") -> Float[Tensor, "token hidden"]:
    """Return the last hidden states that predict scored tokens, to compare with later; the head is not applied."""
    laid_out = plan(model, batch, layout)
    return hidden_states(model, laid_out)[laid_out.predictors]


def token_statistics(
    model: nn.Module,
    batch: CandidateBatch,
    *,
    layout: str = "auto",
    logit_bytes: int = 2**30,
    reference: Float[Tensor, "token hidden"] | None = None,
) -> TokenStatistics:
    """Return statistics of every scored token; the reference has the same head."""
    laid_out = plan(model, batch, layout)
    hidden = hidden_states(model, laid_out)[laid_out.predictors]
    top = head(model)
    rows = max(logit_bytes // (24 * top.vocab_size), 1)  # three matrices of 4 bytes and their gradients
    other = torch.split(reference, rows) if reference is not None else [None] * len(laid_out.targets)
    parts = []
    for own, targets, theirs in zip(
        torch.split(hidden, rows), torch.split(laid_out.targets, rows), other, strict=False
    ):
        arguments = (top, own, targets, theirs)
        tiled = len(hidden) > rows
        parts.append(checkpoint(_statistics, *arguments, use_reentrant=False) if tiled else _statistics(*arguments))
    logprobs, means, entropies, divergences = torch.cat(parts, dim=1)
    return TokenStatistics(logprobs, means, entropies, divergences, laid_out.counts)


def _statistics(top: Head, hidden: Tensor, targets: Tensor, reference: Tensor | None) -> Tensor:
    table = top.logits(hidden).log_softmax(-1)
    own = table.gather(1, targets[:, None])[:, 0]
    divergence = torch.zeros_like(own)
    if reference is not None:
        theirs = top.logits(reference).log_softmax(-1)
        divergence = (theirs.exp() * (theirs - table)).sum(-1)
    return torch.stack([own, table.mean(-1), -(table.exp() * table).sum(-1), divergence])
