"""Pair scores for tests: random ones, and the same as plain numbers."""

from __future__ import annotations

import torch

from align.records import PairScores
from tests.formulas.preferences import Pair


def random_pairs(count: int = 6, seed: int = 0) -> tuple[PairScores, PairScores, list[Pair]]:
    generator = torch.Generator().manual_seed(seed)
    values = -8 * torch.rand(4, count, generator=generator, dtype=torch.float64) - 0.5
    lengths = torch.randint(1, 9, (2, count), generator=generator)
    policy = PairScores(values[0], values[1], lengths[0], lengths[1])
    reference = PairScores(values[2], values[3], lengths[0], lengths[1])
    columns = [*values.tolist(), *lengths.tolist()]
    return policy, reference, [Pair(*row) for row in zip(*columns, strict=True)]


def swapped(s: PairScores) -> PairScores:
    return PairScores(s.rejected, s.chosen, s.rejected_lengths, s.chosen_lengths)


def gradcheck(objective) -> None:
    policy, reference, _ = random_pairs(3, seed=1)
    inputs = policy.chosen.requires_grad_(), policy.rejected.requires_grad_()
    assert torch.autograd.gradcheck(lambda c, r: objective(policy._replace(chosen=c, rejected=r), reference), inputs)
