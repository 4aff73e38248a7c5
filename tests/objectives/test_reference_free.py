"""Losses without a reference: plain formulas, identities, gradients, refusals."""

from __future__ import annotations

import pytest
import torch

from align.objectives.pairwise import DPO
from align.objectives.reference_free import CPL, CPO, ORPO, ChosenLikelihood, SimPO, SLiC
from align.records import PairScores
from tests.formulas import preferences as plain
from tests.objectives.pairs import gradcheck, random_pairs

POLICY, REFERENCE, PAIRS = random_pairs(seed=2)
ZERO = REFERENCE._replace(chosen=torch.zeros(6).double(), rejected=torch.zeros(6).double())
CASES = [
    (SimPO(2.0, 0.8), lambda p: plain.simpo(p, 2.0, 0.8, 0)),
    (SimPO(2.0, 0.8, 0.1), lambda p: plain.simpo(p, 2.0, 0.8, 0.1)),
    (CPO(0.3, 0.1, 0.7), lambda p: plain.cpo(p, 0.3, 0.1, 0.7)),
    (ORPO(0.4), lambda p: plain.orpo(p, 0.4)),
    (SLiC(2.0, 0.3), lambda p: plain.slic(p, 2.0, 0.3)),
    (CPL(0.4, 0.6), lambda p: plain.cpl(p, 0.4, 0.6)),
    (ChosenLikelihood(), lambda p: -p.w / p.len_w),
]


@pytest.mark.parametrize(("objective", "formula"), CASES, ids=lambda c: type(c).__name__)
def test_equals_the_plain_formula_whatever_the_reference(objective, formula) -> None:
    assert objective.requires == frozenset()
    for reference in (REFERENCE, ZERO):
        assert objective(POLICY, reference).tolist() == pytest.approx([formula(p) for p in PAIRS], rel=1e-9)


@pytest.mark.parametrize("objective", [c[0] for c in CASES], ids=lambda o: type(o).__name__)
def test_gradcheck(objective) -> None:
    gradcheck(objective)


@pytest.mark.parametrize("objective", [CPL(0.3, 1.0), CPO(0.3, nll_weight=0)], ids=lambda o: type(o).__name__)
def test_reductions_to_dpo_without_a_reference(objective) -> None:
    torch.testing.assert_close(objective(POLICY, ZERO), DPO(0.3)(POLICY, ZERO))


def test_slic_is_likelihood_beyond_its_margin() -> None:
    far = POLICY._replace(rejected=POLICY.chosen - 100)
    torch.testing.assert_close(SLiC(1.0, 0.5)(far, ZERO), -0.5 * POLICY.chosen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orpo_is_finite_for_certain_and_for_hopeless_responses(dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, -1e-12, -0.69, -500.0], dtype=dtype, requires_grad=True)
    ones = torch.ones(4, dtype=torch.long)
    losses = ORPO()(PairScores(values, values.flip(0), ones, ones), ZERO)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert values.grad is not None
    assert values.grad.isfinite().all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SimPO(gamma=-1), "gamma must not be negative, got -1"),
        (lambda: SimPO(label_smoothing=0.5), "label_smoothing must lie in"),
        (lambda: CPO(nll_weight=-0.1), "nll_weight must not be negative"),
        (lambda: ORPO(beta=0), "beta must be positive"),
        (lambda: SLiC(delta=-1), "delta must not be negative, got -1"),
        (lambda: CPL(bias=0), r"bias must lie in \(0, 1\], got 0"),
        (lambda: CPL(bias=1.1), r"bias must lie in \(0, 1\]"),
    ],
)
def test_refuses_settings_out_of_range(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
