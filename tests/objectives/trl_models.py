"""A policy, its reference and one batch, as TRL's trainers and as we take them."""

from __future__ import annotations

from typing import Any

import torch

from align.records import CandidateBatch, EncodedGroup, PairScores
from align.scoring import read_tokens, sum_tokens, token_states
from tests.tiny import tiny_model

Group = tuple[list[int], list[int], list[int]]
GROUPS: list[Group] = [
    ([0, 9, 10, 11], [12, 13, 1], [14, 1]),
    ([0, 20, 21], [22, 23, 24, 25, 1], [26, 27, 1]),
    ([0, 30], [31, 1], [32, 33, 34, 1]),
]
OPTIONS: dict[str, Any] = {"report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False}


def models(**changes: Any) -> tuple[Any, Any]:
    """A policy some way from its reference."""
    policy, frozen = tiny_model(**changes), tiny_model(**changes)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return policy, frozen


def pair_batch(groups: list[Group]) -> CandidateBatch:
    return CandidateBatch.of(
        [EncodedGroup(f"g{n}", p, [c, r], [0, 1], [[], []], 1.0, [False] * 2) for n, (p, c, r) in enumerate(groups)]
    )


def scores(model: Any, batch: CandidateBatch, *, collisions: bool = False, reduction: Any = None):
    tokens = read_tokens(model, token_states(model, batch), logit_bytes=2**30, collisions=collisions)
    return sum_tokens(tokens, batch, reduction)


def pairs(policy: Any, frozen: Any, batch: CandidateBatch, reduction: Any = None) -> tuple[PairScores, PairScores]:
    with torch.no_grad():
        reference = scores(frozen, batch, reduction=reduction)
    own = scores(policy, batch, reduction=reduction)
    return PairScores.of(own, batch), PairScores.of(reference, batch)


def taken_gradient(policy: Any, loss: torch.Tensor) -> torch.Tensor:
    policy.zero_grad()
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    policy.zero_grad()
    return gradient


def assert_same(policy: Any, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Loss and gradient agree."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    own, other = taken_gradient(policy, ours), taken_gradient(policy, theirs)
    assert (own - other).norm() < 1e-4 * other.norm()
