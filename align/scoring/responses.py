"""Log-probabilities of responses: the one function behind every loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from align.records import CandidateBatch, ResponseScores
from align.records.candidate_matrix import sum_runs
from align.scoring.decoder import choose_layout, head, hidden_states
from align.scoring.head import tiled
from align.scoring.layouts import Plan, lay_out
from align.scoring.reductions import Reduction
from align.transfer import to_device


class TokenScores(NamedTuple):
    """Log-probabilities of scored tokens, those of one candidate in a run of `counts[candidate]`."""

    logprobs: Float[Tensor, " token"]
    counts: Int[Tensor, " candidate"]
    collisions: Float[Tensor, " token"] | None = None
    """log sum_v p(v)^2 where each token stands, without gradient; only where asked for."""
    entropies: Float[Tensor, " token"] | None = None
    """Entropy of the distribution each token is drawn from, in nats; only where asked for."""


class TokenStates(NamedTuple):
    """What the head reads: the decoder's state before each scored token, ordered as in TokenScores."""

    hidden: Float[Tensor, "token hidden"]
    targets: Int[Tensor, " token"]
    counts: Int[Tensor, " candidate"]
    last: Float[Tensor, "candidate hidden"] | None = None
    """The state of each candidate's last token, which no token follows; None where the decoder was not run for it."""

    def prompts(self) -> Float[Tensor, "candidate hidden"]:
        """Return the state of the last prompt token, before the response, of each candidate (no prompt scored)."""
        return self.hidden[self.counts.cumsum(0) - self.counts]


def plan(model: nn.Module, batch: CandidateBatch, layout: str = "auto", *, score_prompts: bool = False) -> Plan:
    """Lay a batch out for a model: `packed`, `shared`, `padded`, or `auto` for the fastest exact one."""
    return lay_out(batch, choose_layout(model, batch, layout), score_prompts=score_prompts)


def token_states(
    model: nn.Module, batch: CandidateBatch, *, layout: str = "auto", score_prompts: bool = False
) -> TokenStates:
    """Run the decoder and return its states before every response token. Arguments as in `score_tokens`."""
    laid_out = plan(model, batch, layout, score_prompts=score_prompts)
    hidden = hidden_states(model, laid_out)
    return TokenStates(hidden[laid_out.predictors], laid_out.targets, laid_out.counts, hidden[laid_out.last])


def read_tokens(model: nn.Module, states: TokenStates, *, logit_bytes: int, collisions: bool = False) -> TokenScores:
    """Run the head over states of the same model. Arguments as in `score_tokens`."""
    own = head(model)
    if not collisions:
        return TokenScores(own.tiled_logprobs(states.hidden, states.targets, logit_bytes), states.counts)
    values = tiled(own.logprobs_and_collisions, (states.hidden, states.targets), 8 * own.vocab_size, logit_bytes)
    return TokenScores(values[0], states.counts, values[1].detach())


def read_sampled(
    model: nn.Module, states: TokenStates, *, temperature: float, logit_bytes: int, entropy_gradients: bool = False
) -> TokenScores:
    """Run the head as tokens are drawn at a temperature: logits are divided by it, and entropies are told.

    Args:
        model: The model of the states.
        states: What the head reads.
        temperature: Of sampling.
        logit_bytes: As in `score_tokens`.
        entropy_gradients: Whether entropies have a gradient.
    """
    own = head(model).cooled(temperature)
    read = own.logprobs_and_entropy_gradients if entropy_gradients else own.logprobs_and_entropies
    found = tiled(read, (states.hidden, states.targets), 12 * own.vocab_size, logit_bytes)
    return TokenScores(found[0], states.counts, entropies=found[1])


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
    states = token_states(model, batch, layout=layout, score_prompts=score_prompts)
    return read_tokens(model, states, logit_bytes=logit_bytes)


def sum_tokens(tokens: TokenScores, batch: CandidateBatch, reduction: Reduction | None = None) -> ResponseScores:
    """Return the numbers of every candidate; log-probabilities are weighted by the reduction, null the plain sum."""
    logprobs = tokens.logprobs
    weights = None if batch.response_weights is None else torch.from_numpy(batch.response_weights)
    if reduction is not None:
        own = reduction.weights(batch)
        logprobs = logprobs * _like(own if weights is None else own[weights > 0], logprobs)
    if weights is not None:
        logprobs = logprobs * _like(weights[weights > 0], logprobs)
    sums, collisions = sum_runs(logprobs, tokens.counts), tokens.collisions
    return ResponseScores(sums, tokens.counts, None if collisions is None else sum_runs(collisions, tokens.counts))


def _like(weights: Tensor, values: Tensor) -> Tensor:
    return to_device(weights.to(values.dtype), values.device)


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
    return sum_tokens(tokens, batch)


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
    states = TokenStates(hidden[laid_out.predictors], laid_out.targets, laid_out.counts)
    return LastAndScores(hidden[laid_out.last], sum_tokens(read_tokens(model, states, logit_bytes=logit_bytes), batch))


def last_hidden(model: nn.Module, batch: CandidateBatch, *, layout: str = "auto") -> Float[Tensor, "candidate hidden"]:
    """Return the final hidden state of each candidate's last token, which a reward head reads."""
    laid_out = plan(model, batch, layout)
    return hidden_states(model, laid_out)[laid_out.last]
