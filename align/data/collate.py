"""From encoded groups to a CandidateBatch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from align.records import CandidateBatch, EncodedGroup, StepTotals, totals_of


def collate(groups: Sequence[EncodedGroup], totals: StepTotals | None = None) -> CandidateBatch:
    """Put groups into one batch. Without `totals` the batch counts as a whole optimiser step.

    Raises ValueError for a response without tokens: encoders never make one.
    """
    responses = [r for g in groups for r in g.response_ids]
    if not all(responses):
        raise ValueError(f"a response of {[g.id for g in groups if not all(g.response_ids)]} has no tokens")
    scores = [s for g in groups for s in g.scores]
    width = max((len(s) for s in scores), default=0)
    own = totals_of((g.weight, sum(map(len, g.response_ids)), len(g.prompt_ids)) for g in groups)
    return CandidateBatch(
        prompt_ids=torch.tensor([t for g in groups for t in g.prompt_ids], dtype=torch.long),
        response_ids=torch.tensor([t for r in responses for t in r], dtype=torch.long),
        prompt_lengths=tuple(len(g.prompt_ids) for g in groups),
        response_lengths=tuple(map(len, responses)),
        prompt_of=tuple(i for i, g in enumerate(groups) for _ in g.response_ids),
        group_sizes=tuple(len(g.response_ids) for g in groups),
        ranks=torch.tensor([r for g in groups for r in g.ranks], dtype=torch.long),
        scores=torch.tensor([s + [math.nan] * (width - len(s)) for s in scores]).reshape(len(responses), width),
        weights=torch.tensor([g.weight for g in groups]),
        ids=tuple(g.id for g in groups),
        totals=totals or own,
    )
