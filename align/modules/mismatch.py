"""Responses under their neighbours' prompts: the sample behind KTO's reference point."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from align.errors import DataError
from align.records import CandidateBatch


def mismatched(batch: CandidateBatch, max_positions: int) -> tuple[CandidateBatch, Bool[Tensor, " candidate"]]:
    """Give prompt i the response of row i - 1, and say which of these pairs are really mismatched.

    Two rows with the same response, or the same prompt, make no mismatched pair. A response is cut where it would not
    fit behind its new prompt. Raises DataError for a batch of one row.
    """
    prompts = [p.tolist() for p in torch.split(batch.prompt_ids, list(batch.prompt_lengths))]
    prompts = [prompts[p] for p in batch.prompt_of]
    responses = [r.tolist() for r in torch.split(batch.response_ids, list(batch.response_lengths))]
    if len(responses) < 2:
        raise DataError(
            f"KTO compares responses under other prompts of a micro-batch, so it needs at least 2 rows, got 1 "
            f"({batch.ids[0]!r}): set data.batching to FixedSize with more groups, or raise data.batching.tokens"
        )
    foreign = [r[: max_positions - len(p)] for p, r in zip(prompts, responses[-1:] + responses[:-1], strict=True)]
    real = [responses[i] != responses[i - 1] and prompts[i] != prompts[i - 1] for i in range(len(prompts))]
    device = batch.response_ids.device
    moved = batch._replace(
        prompt_ids=torch.tensor([t for p in prompts for t in p], device=device),
        response_ids=torch.tensor([t for r in foreign for t in r], device=device),
        prompt_lengths=tuple(map(len, prompts)),
        response_lengths=tuple(map(len, foreign)),
        prompt_of=tuple(range(len(prompts))),
    )
    return moved, torch.tensor(real, device=device)
