"""Responses under other rows' prompts: the sample behind KTO's reference point."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from align.errors import DataError
from align.records import CandidateBatch, Foreign


def mismatched(batch: CandidateBatch, max_positions: int) -> tuple[CandidateBatch, Bool[Tensor, " candidate"]]:
    """Give every prompt the response of another row, and say which of these pairs are really mismatched.

    The other row is the one before it in the step's order, however the step is cut into micro-batches; in a batch that
    comes without one, the one before it there. Two rows with the same response, or the same prompt, make no mismatched
    pair. A response is cut where it would not fit behind its new prompt. Raises DataError for a lone row.
    """
    prompts = [p.tolist() for p in torch.split(batch.prompt_ids, list(batch.prompt_lengths))]
    prompts = [prompts[p] for p in batch.prompt_of]
    other = batch.foreign or _before(batch, prompts)
    responses = [r.tolist() for r in torch.split(other.ids, list(other.lengths))]
    foreign = [r[: max_positions - len(p)] for p, r in zip(prompts, responses, strict=True)]
    device = batch.response_ids.device
    moved = batch._replace(
        prompt_ids=torch.tensor([t for p in prompts for t in p], device=device),
        response_ids=torch.tensor([t for r in foreign for t in r], device=device),
        prompt_lengths=tuple(map(len, prompts)),
        response_lengths=tuple(map(len, foreign)),
        prompt_of=tuple(range(len(prompts))),
        response_weights=None,
    )
    return moved, torch.tensor(other.real, device=device)


def _before(batch: CandidateBatch, prompts: list[list[int]]) -> Foreign:
    """Return the response of row i - 1 for every row of a batch."""
    responses = [r.tolist() for r in torch.split(batch.response_ids, list(batch.response_lengths))]
    if len(responses) < 2:
        raise DataError(
            f"KTO compares responses under other prompts, so it needs at least 2 rows, got 1 ({batch.ids[0]!r})"
        )
    others = responses[-1:] + responses[:-1]
    return Foreign(
        torch.tensor([t for r in others for t in r], device=batch.response_ids.device),
        tuple(map(len, others)),
        tuple(responses[i] != others[i] and prompts[i] != prompts[i - 1] for i in range(len(prompts))),
    )
