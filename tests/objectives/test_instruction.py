"""Contrastive instruction tuning in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from align.objectives.instruction import ContrastiveInstruction


def contrast(margin: float, **options: float) -> float:
    return ContrastiveInstruction(**options)(torch.tensor(margin, dtype=torch.float64)).item()


def test_values() -> None:
    """softplus(-1) + .2 = .313262 + .2; at 0 log 2 whatever the smoothing."""
    assert contrast(1.0) == pytest.approx(0.513262, abs=1e-6)
    for smoothing in (0.0, 0.2, 0.4):
        assert contrast(0.0, contrast_smoothing=smoothing) == pytest.approx(math.log(2), abs=1e-12)
    assert contrast(math.log(4)) == pytest.approx(0.5004, abs=1e-4)


def test_swapping_the_instructions_turns_smoothing_round() -> None:
    for margin in (-2.0, 0.3, 5.0):
        assert contrast(-margin, contrast_smoothing=0.3) == pytest.approx(contrast(margin, contrast_smoothing=0.7))


def test_optimum_at_log_four() -> None:
    margin = torch.tensor(math.log(4), dtype=torch.float64, requires_grad=True)
    ContrastiveInstruction()(margin).backward()
    assert margin.grad is not None
    assert margin.grad.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(ContrastiveInstruction(), torch.randn(5, dtype=torch.float64, requires_grad=True))


def test_very_small_log_probabilities_are_fine() -> None:
    """The ratio of exponentials gives NaN for -400 against -410."""
    objective = ContrastiveInstruction(logprob="sum")
    margin = objective.margin(torch.tensor([-400.0]), torch.tensor([-410.0]), torch.tensor([7.0]))
    assert margin.item() == 10
    assert objective(margin).isfinite().all()
    assert ContrastiveInstruction().margin(torch.tensor([-400.0]), torch.tensor([-410.0]), torch.tensor([5.0])) == 2


def test_smoothed_likelihood() -> None:
    """-(1 - s) log p - s mean log p; an independent formula: cross-entropy with label smoothing."""
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(6)
    table = logits.log_softmax(-1)
    own = ContrastiveInstruction(likelihood_smoothing=0.2).likelihood(table[range(6), targets], table.mean(-1))
    expected = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("options", [{"contrast_smoothing": 1.0}, {"likelihood_smoothing": -0.1}, {"kl_weight": -1.0}])
def test_bad_settings(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ContrastiveInstruction(**options)
