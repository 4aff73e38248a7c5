"""Full-vocabulary statistics from a plain forward over each candidate alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from align.records import CandidateBatch


def response_logprobs(model: Any, batch: CandidateBatch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The log-softmax before every response token, and the tokens, of each candidate."""
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    for candidate, response in enumerate(torch.split(batch.response_ids, list(batch.response_lengths))):
        prompt = prompts[batch.prompt_of[candidate]]
        logits = model(input_ids=torch.cat([prompt, response])[None], use_cache=False).logits[0]
        yield logits[len(prompt) - 1 : -1].log_softmax(-1), response


def collisions(model: Any, batch: CandidateBatch) -> torch.Tensor:
    return torch.stack([(lp.exp() ** 2).sum(-1).log().sum() for lp, _ in response_logprobs(model, batch)])


def forward_kl(policy: Any, reference: Any, batch: CandidateBatch) -> torch.Tensor:
    sides = zip(response_logprobs(policy, batch), response_logprobs(reference, batch), strict=True)
    return torch.stack([(r.exp() * (r - p)).sum() for (p, _), (r, _) in sides])


def weighted(model: Any, batch: CandidateBatch, weight) -> torch.Tensor:
    """Sum of token log-probabilities, each times `weight(candidate, place)`."""
    sums = []
    for candidate, (logprobs, response) in enumerate(response_logprobs(model, batch)):
        parts = [weight(candidate, t) * logprobs[t, token] for t, token in enumerate(response.tolist())]
        sums.append(torch.stack(parts).sum())
    return torch.stack(sums)
