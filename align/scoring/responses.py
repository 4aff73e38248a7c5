"""Log-probabilities of responses: the one function behind every loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from align.records import CandidateBatch, ResponseScores
from align.scoring.backbone import choose_layout, head, hidden_states
from align.scoring.head import tiled_logprobs
from align.scoring.layouts import LAYOUTS, Plan


class TokenScores(NamedTuple):
    """Log-probabilities of scored tokens, those of one candidate in a run of `counts[candidate]`."""

    logprobs: Float[Tensor, " token"]
    counts: Int[Tensor, " candidate"]


def plan(model: nn.Module, batch: CandidateBatch, layout: str = "auto", *, score_prompts: bool = False) -> Plan:
    """Lay a batch out for a model: `packed`, `shared`, `padded`, or `auto` for the fastest exact one."""
    return LAYOUTS[choose_layout(model, batch, layout)](batch, score_prompts)


def score_tokens(
    model: nn.Module,
    batch: CandidateBatch,
    *,
    layout: str = "auto",
    logit_bytes: int = 2**30,
    score_prompts: bool = False,
) -> TokenScores:
    """Return the log-probability of every response token, EOS included, in nats.

    The head runs on scored positions only, in tiles when their logits would take more than `logit_bytes`; the softmax
    is taken in float32 whatever the model's dtype. With `score_prompts` prompt tokens after the first are scored too.
    """
    laid_out = plan(model, batch, layout, score_prompts=score_prompts)
    hidden = hidden_states(model, laid_out)[laid_out.predictors]
    logprobs = tiled_logprobs(head(model), hidden, laid_out.targets, logit_bytes)
    return TokenScores(logprobs, laid_out.counts)


def score_responses(
    model: nn.Module,
    batch: CandidateBatch,
    *,
    layout: str = "auto",
    logit_bytes: int = 2**30,
    score_prompts: bool = False,
) -> ResponseScores:
    """Return the summed log-probability and the token count of every candidate. Arguments as in `score_tokens`."""
    tokens = score_tokens(model, batch, layout=layout, logit_bytes=logit_bytes, score_prompts=score_prompts)
    return ResponseScores(torch.segment_reduce(tokens.logprobs, "sum", lengths=tokens.counts), tokens.counts)


class LastAndScores(NamedTuple):
    """What one run of the decoder gives a reward head and a vocabulary head."""

    last: Float[Tensor, "candidate hidden"]
    """Final hidden state of each candidate's last token."""
    scores: ResponseScores


def last_hidden_and_scores(
    model: nn.Module,
    batch: CandidateBatch,
    *,
    layout: str = "auto",
    logit_bytes: int = 2**30,
    score_prompts: bool = False,
) -> LastAndScores:
    """Return what `last_hidden` and `score_responses` do, from one run of the decoder."""
    laid_out = plan(model, batch, layout, score_prompts=score_prompts)
    hidden = hidden_states(model, laid_out)
    logprobs = tiled_logprobs(head(model), hidden[laid_out.predictors], laid_out.targets, logit_bytes)
    sums = torch.segment_reduce(logprobs, "sum", lengths=laid_out.counts)
    return LastAndScores(hidden[laid_out.last], ResponseScores(sums, laid_out.counts))


def last_hidden(model: nn.Module, batch: CandidateBatch, *, layout: str = "auto") -> Float[Tensor, "candidate hidden"]:
    """Return the final hidden state of each candidate's last token, which a reward head reads."""
    laid_out = plan(model, batch, layout)
    return hidden_states(model, laid_out)[laid_out.last]
