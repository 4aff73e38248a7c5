"""Nash-MD's policy gradient: the exact gradient over all responses of a small policy, TRL's former trainer on one token."""

from __future__ import annotations

import itertools

import pytest
import torch

from align.errors import DataError
from align.objectives.nash import NashMD
from align.objectives.pointwise import PointwiseContext
from align.records import PointScores
from tests.formulas.preferences import nash_md_of_trl

TOKENS, BETA = 3, 0.4
NOTHING = PointwiseContext()


def points(logprobs: torch.Tensor, chances: torch.Tensor) -> PointScores:
    return PointScores(logprobs, torch.ones(len(logprobs), dtype=torch.long), chances)


def test_the_gradient_is_that_of_the_regularised_game() -> None:
    """Of E[P(y beats y')] - beta KL(policy, reference), over all responses of two tokens, the second after the first."""
    torch.manual_seed(0)
    first, second = torch.randn(TOKENS).double().requires_grad_(), torch.randn(TOKENS, TOKENS).double().requires_grad_()
    responses = list(itertools.product(range(TOKENS), repeat=2))
    chances, anchor = torch.rand(len(responses)).double(), torch.randn(len(responses)).double().log_softmax(0)
    logprobs = torch.stack([first.log_softmax(0)[a] + second.log_softmax(1)[a, b] for a, b in responses])
    game = (logprobs.exp() * (chances - BETA * (logprobs - anchor))).sum()
    expected = torch.autograd.grad(game, [first, second], retain_graph=True)
    losses = NashMD(BETA)(points(logprobs, chances), points(anchor, chances), NOTHING)
    found = torch.autograd.grad((logprobs.detach().exp() * losses).sum(), [first, second])
    for ours, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(-ours, exact, rtol=1e-9, atol=1e-12)


def test_on_one_token_it_is_trls() -> None:
    policy = torch.tensor([-1.0, -0.2, -3.0]).double().requires_grad_()
    reference, chances = torch.tensor([-0.7, -0.9, -2.0]).double(), torch.tensor([0.9, 0.5, 0.0]).double()
    ours = NashMD(BETA)(points(policy, chances), points(reference, chances), NOTHING)
    theirs = nash_md_of_trl(policy[:, None], reference[:, None], chances, BETA)
    torch.testing.assert_close(ours, theirs)
    assert ours[0].item() == pytest.approx((0.4 * -0.3 - 0.4) * -1.0)
    found, expected = (torch.autograd.grad(losses.sum(), policy)[0] for losses in (ours, theirs))
    torch.testing.assert_close(found, expected)


def test_labels_are_chances() -> None:
    given = points(torch.zeros(1), torch.tensor([1.5]))
    with pytest.raises(DataError, match="win rates in"):
        NashMD()(given, given, NOTHING)
