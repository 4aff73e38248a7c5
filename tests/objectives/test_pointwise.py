"""Losses on single responses: worked numbers of the specification, plain formulas, identities, gradients, refusals."""

from __future__ import annotations

import math
import sys
import typing

import pytest
import torch

from align.errors import DataError
from align.objectives import objective
from align.objectives.pairwise_absolute import BCOPair, SPPOHard
from align.objectives.pointwise import BCO, KTO, PMPO, PointwiseContext
from align.objectives.scored import DRO, SPPO, FilteredLikelihood, RewardWeighted
from align.objectives.sums import PointSum, PointTerm
from align.records import PairScores, PointScores
from tests.cli.pluggable import subclasses
from tests.formulas import preferences as plain

RATIOS = [1.0, -0.5, -2.0, 0.4]
LABELS = [1.0, 1.0, 0.0, 0.0]
LENGTHS = torch.tensor([2, 3, 1, 4])


def points(logprobs: list[float], labels: list[float] = LABELS) -> PointScores:
    return PointScores(torch.tensor(logprobs).double(), LENGTHS[: len(logprobs)], torch.tensor(labels).double())


BASE = [-7.0, -9.0, -4.0, -11.0]
POLICY, REFERENCE = points([b + r for b, r in zip(BASE, RATIOS, strict=True)]), points(BASE)
SCORED = POLICY._replace(labels=torch.tensor([0.9, 0.2, 0.5, 0.0]).double())
CONTEXT = PointwiseContext(
    torch.tensor(0.3).double(), torch.tensor(0.2).double(),
    torch.tensor([0.1, -0.2, 0.3, 0.4]).double(), torch.tensor([0.5, 0.0, 1.5, 2.0]).double(),
)  # fmt: skip
NOTHING = PointwiseContext()


def test_kto_worked_numbers() -> None:
    # methods-preference 8
    losses = KTO(0.1)(POLICY, REFERENCE, CONTEXT)
    assert losses.tolist() == pytest.approx([0.482507, 0.519989, 0.442752, 0.502500], abs=1e-6)
    assert losses.mean().item() == pytest.approx(0.486937, abs=1e-6)


def test_kto_equals_the_plain_formula() -> None:
    losses = KTO(0.4, 1.3, 0.7)(POLICY, REFERENCE, CONTEXT)
    weights = [1.3, 1.3, 0.7, 0.7]
    rows = zip(RATIOS, LABELS, weights, strict=True)
    assert losses.tolist() == pytest.approx([plain.kto(z, y == 1, 0.3, 0.4, w) for z, y, w in rows])


def test_bco_equals_the_plain_formula() -> None:
    losses = BCO(0.4)(POLICY, REFERENCE, CONTEXT)
    rows = zip(RATIOS, LABELS, strict=True)
    assert losses.tolist() == pytest.approx([plain.bco(z, y == 1, 0.2, 0.4) for z, y in rows])


def test_bco_without_a_shift_is_its_form_for_pairs() -> None:
    context = CONTEXT._replace(reward_shift=torch.zeros(()).double())
    losses = BCO(0.4)(POLICY, REFERENCE, context)
    pairs = [PairScores(s.logprobs[:2], s.logprobs[2:], LENGTHS[:2], LENGTHS[2:]) for s in (POLICY, REFERENCE)]
    torch.testing.assert_close(losses[:2] + losses[2:], BCOPair(0.4)(*pairs))


def test_pmpo_by_hand() -> None:
    # -0.7 l for desirable, +0.3 l for undesirable, 0.2 KL
    expected = [-0.7 * -6.0 + 0.1, -0.7 * -9.5, 0.3 * -6.0 + 0.3, 0.3 * -10.6 + 0.4]
    assert PMPO(0.7, 0.2)(POLICY, REFERENCE, CONTEXT).tolist() == pytest.approx(expected)


def test_scored_likelihoods_by_hand() -> None:
    losses = FilteredLikelihood(0.4)(SCORED, REFERENCE, NOTHING)
    assert losses.tolist() == pytest.approx([6.0, 0.0, 6.0, 0.0])
    weights = RewardWeighted(0.5, 0.2, max_weight=3.0).weights(SCORED.labels)
    assert weights.tolist() == pytest.approx([3.0, 1.0, math.exp(0.6), math.exp(-0.4)])


def test_sppo_and_dro_by_hand() -> None:
    targets = [0.4 / 0.5, -0.3 / 0.5, 0.0, -0.5 / 0.5]
    expected = [(z - t) ** 2 for z, t in zip(RATIOS, targets, strict=True)]
    assert SPPO(0.5)(SCORED, REFERENCE, NOTHING).tolist() == pytest.approx(expected)
    residuals = [0.9 - 0.1 - 0.3, 0.2 + 0.2 + 0.15, 0.5 - 0.3 + 0.6, 0.0 - 0.4 - 0.12]
    losses = DRO(0.3)(SCORED, REFERENCE, CONTEXT)
    assert losses.tolist() == pytest.approx([r**2 / 2 for r in residuals])


def test_certain_win_rates_are_the_hard_form_up_to_one_half() -> None:
    soft = SPPO(0.05)(POLICY, REFERENCE, NOTHING).mean()  # labels 1, 1, 0, 0: rows of two pairs
    pairs = [PairScores(s.logprobs[:2], s.logprobs[2:], LENGTHS[:2], LENGTHS[2:]) for s in (POLICY, REFERENCE)]
    torch.testing.assert_close(soft, SPPOHard(0.05)(*pairs).mean() / 2)


def test_at_the_start() -> None:
    context = PointwiseContext(torch.zeros(()), torch.zeros(()), torch.zeros(4), torch.zeros(4))
    assert KTO(0.1, 1.2, 0.8)(REFERENCE, REFERENCE, context).tolist() == pytest.approx([0.6, 0.6, 0.4, 0.4])
    assert BCO(0.1)(REFERENCE, REFERENCE, context).tolist() == pytest.approx([math.log(2)] * 4)


ALL = [KTO(0.4, 1.3), BCO(0.4), PMPO(0.7), FilteredLikelihood(0.4), RewardWeighted(0.5), SPPO(0.5), DRO(0.3)]


@pytest.mark.parametrize("objective", ALL, ids=lambda o: type(o).__name__)
def test_gradcheck(objective) -> None:
    scores = SCORED if objective.view in ("regression", "win_rates") else POLICY
    inputs = (
        scores.logprobs.clone().requires_grad_(),
        CONTEXT.values.clone().requires_grad_(),
        CONTEXT.forward_kl.clone().requires_grad_(),
    )
    assert torch.autograd.gradcheck(
        lambda x, v, k: objective(scores._replace(logprobs=x), REFERENCE, CONTEXT._replace(values=v, forward_kl=k)),
        inputs,
    )


def test_sums_keep_to_one_view() -> None:
    total = PointSum([PointTerm(KTO(0.1), 2.0), PointTerm(PMPO(), 0.5)])
    expected = 2 * KTO(0.1)(POLICY, REFERENCE, CONTEXT) + 0.5 * PMPO()(POLICY, REFERENCE, CONTEXT)
    torch.testing.assert_close(total(POLICY, REFERENCE, CONTEXT), expected)
    assert total.requires == {"reference", "mismatched_kl", "forward_kl"}
    assert total.view == "unpaired"
    with pytest.raises(ValueError, match="got regression and unpaired"):
        PointSum([PointTerm(KTO()), PointTerm(DRO())])


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels must be 1 \(desirable\) or 0 \(undesirable\), got \[0.0, 0.2"):
        KTO()(SCORED, REFERENCE, CONTEXT)
    with pytest.raises(DataError, match=r"labels must be win rates in \[0, 1\], got values from 0 to 7"):
        SPPO()(points(BASE, [7.0, 0.0, 1.0, 0.5]), REFERENCE, NOTHING)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KTO(desirable_weight=-1), "desirable_weight must not be negative"),
        (lambda: KTO(beta=0), "beta must be positive"),
        (lambda: PMPO(alpha=1.1), r"alpha must lie in \[0, 1\]"),
        (lambda: PMPO(beta=-1), "beta must not be negative"),
        (lambda: RewardWeighted(beta=0), "beta must be positive"),
        (lambda: RewardWeighted(max_weight=0), "max_weight must be positive"),
        (lambda: FilteredLikelihood(float("nan")), "threshold must be a number"),
    ],
)
def test_refuses_settings_out_of_range(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_the_parser_can_look_up_every_annotation() -> None:
    """jsonargparse evaluates a class's annotations, its bases' included, among the names of the class's module."""
    for cls in (objective.Objective, *subclasses(objective.Objective)):
        typing.get_type_hints(cls, vars(sys.modules[cls.__module__]))
