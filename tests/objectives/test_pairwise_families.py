"""Losses on log-ratios of pairs: plain formulas, identities, gradients, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from align.objectives.f_divergence import FDPO, Alpha, ForwardKL, JensenShannon
from align.objectives.optimal_transport import AOT, AOTUnpaired
from align.objectives.pairwise import DPO, IPO, Hinge
from align.objectives.pairwise_absolute import APODown, APOZero, BCOPair, NCAPair, SPPOHard
from align.objectives.pairwise_margin import EXO, VPO, DiscoPOP, LengthNormalizedDPO, RobustDPO
from align.objectives.reference_free import ChosenLikelihood
from align.objectives.sums import PairSum, PairTerm
from tests.formulas import preferences as plain
from tests.objectives.pairs import gradcheck, random_pairs, swapped

POLICY, REFERENCE, PAIRS = random_pairs()
CASES = [
    (LengthNormalizedDPO(0.7), lambda p: plain.dpo_norm(p, 0.7, 0)),
    (LengthNormalizedDPO(0.7, 0.2), lambda p: plain.dpo_norm(p, 0.7, 0.2)),
    (RobustDPO(0.3, 0.2), lambda p: plain.robust(p, 0.3, 0.2)),
    (EXO(0.3, 0.1), lambda p: plain.exo(p, 0.3, 0.1)),
    (VPO(0.3, 0.1, 0.5), lambda p: plain.vpo(p, 0.3, 0.1, 0.5)),
    (DiscoPOP(0.3, 0.5), lambda p: plain.discopop(p, 0.3, 0.5)),
    (NCAPair(0.3), lambda p: plain.nca(p, 0.3)),
    (BCOPair(0.3), lambda p: plain.bco_pair(p, 0.3)),
    (SPPOHard(0.3), lambda p: plain.sppo_hard(p, 0.3)),
    (APOZero(0.3), lambda p: plain.apo_zero(p, 0.3)),
    (APODown(0.3), lambda p: plain.apo_down(p, 0.3)),
    (FDPO(0.3, divergence=ForwardKL()), lambda p: plain.f_dpo(p, 0.3, lambda t: 1 - 1 / t)),
    (FDPO(0.3, divergence=JensenShannon()), lambda p: plain.f_dpo(p, 0.3, lambda t: math.log(2 * t / (1 + t)))),
    (FDPO(0.3, divergence=Alpha(0.5)), lambda p: plain.f_dpo(p, 0.3, lambda t: (t**-0.5 - 1) / -0.5)),
]
TRANSPORT = [AOT(0.3, 0.1), AOTUnpaired(0.3, 0.1)]


@pytest.mark.parametrize(("objective", "formula"), CASES, ids=lambda c: type(c).__name__)
def test_equals_the_plain_formula(objective, formula) -> None:
    assert objective(POLICY, REFERENCE).tolist() == pytest.approx([formula(p) for p in PAIRS], rel=1e-9)


@pytest.mark.parametrize(("objective", "formula"), list(zip(TRANSPORT, [plain.aot, plain.aot_unpaired], strict=True)))
def test_transport_equals_sorting(objective, formula) -> None:
    losses = objective(POLICY, REFERENCE)
    assert sorted(losses.tolist()) == pytest.approx(sorted(formula(PAIRS, 0.3, 0.1)), rel=1e-9)
    order = torch.tensor([3, 0, 5, 1, 4, 2])  # a pair keeps its quantile's loss wherever it stands
    moved = objective(type(POLICY)(*(v[order] for v in POLICY)), type(POLICY)(*(v[order] for v in REFERENCE)))
    torch.testing.assert_close(moved, losses[order])


@pytest.mark.parametrize("objective", TRANSPORT)
def test_transport_of_one_pair_is_dpo(objective) -> None:
    one = [type(POLICY)(*(v[:1] for v in s)) for s in (POLICY, REFERENCE)]
    torch.testing.assert_close(objective(*one), DPO(0.3, 0.1)(*one))


@pytest.mark.parametrize("objective", [c[0] for c in CASES] + TRANSPORT, ids=lambda o: type(o).__name__)
def test_gradcheck(objective) -> None:
    gradcheck(objective)


class TestIdentities:
    def test_robust_without_noise_is_dpo(self) -> None:
        torch.testing.assert_close(RobustDPO(0.3, 0)(POLICY, REFERENCE), DPO(0.3)(POLICY, REFERENCE))

    def test_robust_is_unbiased_under_flips(self) -> None:
        objective = RobustDPO(0.3, 0.2)
        expected = 0.8 * objective(POLICY, REFERENCE) + 0.2 * objective(swapped(POLICY), swapped(REFERENCE))
        torch.testing.assert_close(expected, DPO(0.3)(POLICY, REFERENCE))

    def test_alpha_divergences_reach_both_kl(self) -> None:
        near = FDPO(0.3, divergence=Alpha(1 + 1e-9))(POLICY, REFERENCE)
        torch.testing.assert_close(near, DPO(0.3)(POLICY, REFERENCE), rtol=1e-6, atol=0)
        forward = FDPO(0.3, divergence=Alpha(0))(POLICY, REFERENCE)
        torch.testing.assert_close(forward, FDPO(0.3, divergence=ForwardKL())(POLICY, REFERENCE))

    @pytest.mark.parametrize(
        ("divergence", "ratio", "derivative"),
        [
            (ForwardKL(), -1000.0, 1 - math.exp(80)),
            (Alpha(2.0), 1000.0, math.exp(80) - 1),
            (Alpha(0.5), -1000.0, (math.exp(80) - 1) / -0.5),
            (Alpha(0.5), -math.inf, (math.exp(80) - 1) / -0.5),
            (ForwardKL(), -79.0, 1 - math.exp(79)),
        ],
    )
    def test_exponents_are_capped_at_80(self, divergence, ratio: float, derivative: float) -> None:
        """In float32, where exp overflows at 88.7; the numbers are f' of the classes at the cap of TRL's DPO trainer."""
        found = divergence(torch.tensor(ratio))
        torch.testing.assert_close(found, torch.tensor(derivative, dtype=torch.float32), rtol=1e-5, atol=0)

    def test_lengths_of_one_make_normalised_dpo_plain(self) -> None:
        ones = torch.ones(6, dtype=torch.long)
        policy, reference = (s._replace(chosen_lengths=ones, rejected_lengths=ones) for s in (POLICY, REFERENCE))
        torch.testing.assert_close(LengthNormalizedDPO(0.3)(policy, reference), DPO(0.3)(policy, reference))

    def test_vpo_adds_the_value_of_the_best_policy(self) -> None:
        """Of one prompt with two responses, all of them: alpha beta log sum ref exp(r / beta), r 0 at the chosen one."""
        p, q, beta, alpha = 0.7, 0.4, 0.2, 0.5
        policy, reference = (
            type(POLICY)(*(torch.tensor([v], dtype=torch.float64) for v in (math.log(x), math.log(1 - x), 1, 1)))
            for x in (p, q)
        )
        rewards = [beta * math.log(p / q), beta * math.log((1 - p) / (1 - q))]
        shifted = [r - rewards[0] for r in rewards]
        value = beta * math.log(q * math.exp(shifted[0] / beta) + (1 - q) * math.exp(shifted[1] / beta))
        expected = DPO(beta)(policy, reference).item() + alpha * value
        assert VPO(beta, alpha=alpha)(policy, reference).item() == pytest.approx(expected, rel=1e-9)

    def test_exo_vanishes_at_the_label(self) -> None:
        # a margin of log((1 - eps) / eps) makes the policy's choice the smoothed label
        one = [type(POLICY)(*(v[:1] for v in s)) for s in (POLICY, POLICY)]
        at = one[0]._replace(chosen=one[0].chosen + math.log(9) / 0.3)
        assert EXO(0.3, 0.1)(at, one[1]).item() == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(
        ("objective", "loss"),
        [
            (RobustDPO(0.1, 0.2), math.log(2)),
            (LengthNormalizedDPO(), math.log(2)),
            (FDPO(), math.log(2)),
            (NCAPair(0.1), 2 * math.log(2)),
            (BCOPair(0.1), 2 * math.log(2)),
            (APOZero(), 1.0),
            (APODown(), 1.0),
            (SPPOHard(0.01), 5000.0),
            (DiscoPOP(), (math.log(2) + 1) / 2),
            (VPO(), math.log(2)),
            (AOT(), math.log(2)),
            (AOTUnpaired(), math.log(2)),
        ],
        ids=lambda o: type(o).__name__,
    )
    def test_where_policy_and_reference_agree(self, objective, loss: float) -> None:
        assert objective(POLICY, POLICY).tolist() == pytest.approx([loss] * 6)
        assert objective.rewards(POLICY, POLICY).abs().max() < 1e-12


class TestSums:
    def test_losses_add_up_by_weight(self) -> None:
        total = PairSum([PairTerm(DPO(0.3), 0.8), PairTerm(Hinge(0.3), -0.5)])
        expected = 0.8 * DPO(0.3)(POLICY, REFERENCE) - 0.5 * Hinge(0.3)(POLICY, REFERENCE)
        torch.testing.assert_close(total(POLICY, REFERENCE), expected)
        assert torch.equal(total.rewards(POLICY, REFERENCE), DPO(0.3).rewards(POLICY, REFERENCE))

    def test_needs_are_those_of_all_terms(self) -> None:
        assert PairSum([PairTerm(ChosenLikelihood())]).requires == frozenset()
        assert PairSum([PairTerm(ChosenLikelihood()), PairTerm(IPO())]).requires == {"reference"}
        with pytest.raises(ValueError, match="terms must be one or more objectives for one view of the data, got no"):
            PairSum([])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RobustDPO(0.1, 0.5), r"label_smoothing must lie in \[0, 0.5\), got 0.5"),
        (lambda: EXO(0.1, 0), "label_smoothing must be positive for EXO"),
        (lambda: DiscoPOP(tau=0), "tau must be positive, got 0"),
        (lambda: Alpha(1), "alpha must differ from 1"),
        (lambda: NCAPair(0), "beta must be positive, got 0"),
        (lambda: AOT(float("nan")), "beta must be positive, got nan"),
    ],
)
def test_refuses_settings_out_of_range(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
