"""Responses under other rows' prompts: the sample behind KTO's reference point."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from align.errors import DataError
from align.records import CandidateBatch, Foreign
from align.transfer import tensor_on


def mismatched(batch: CandidateBatch, max_positions: int) -> tuple[CandidateBatch, Bool[Tensor, " candidate"]]:
    """Give every prompt the response of another row, and say which of these pairs are really mismatched.

    The other row is the one before it in the step's order, however the step is cut into micro-batches; in a batch that
    comes without one, the one before it there. Two rows with the same response, or the same prompt, make no mismatched
    pair. A response is cut where it would not fit behind its new prompt. Raises DataError for a lone row.
    """
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    other = batch.foreign or _before(batch)
    lengths = tuple(batch.prompt_lengths[p] for p in batch.prompt_of)
    kept = tuple(min(n, max_positions - own) for n, own in zip(other.lengths, lengths, strict=True))
    responses = torch.split(other.ids, list(other.lengths))
    moved = batch._replace(
        prompt_ids=torch.cat([prompts[p] for p in batch.prompt_of]),
        response_ids=torch.cat([response[:n] for response, n in zip(responses, kept, strict=True)]),
        prompt_lengths=lengths,
        response_lengths=kept,
        prompt_of=tuple(range(len(lengths))),
        response_weights=None,
    )
    return moved, tensor_on(batch.response_ids.device, other.real)


def _before(batch: CandidateBatch) -> Foreign:
    """Return the response of row i - 1 for every row of a batch to which a loader put none, by its ids."""
    own = [p.tolist() for p in torch.split(batch.prompt_ids, list(batch.prompt_lengths))]
    prompts = [own[p] for p in batch.prompt_of]
    responses = [r.tolist() for r in torch.split(batch.response_ids, list(batch.response_lengths))]
    if len(responses) < 2:
        raise DataError(
            f"KTO compares responses under other prompts, so it needs at least 2 rows, got 1 ({batch.ids[0]!r})"
        )
    others = responses[-1:] + responses[:-1]
    return Foreign(
        tensor_on(batch.response_ids.device, [t for r in others for t in r]),
        tuple(map(len, others)),
        tuple(responses[i] != others[i] and prompts[i] != prompts[i - 1] for i in range(len(prompts))),
    )
