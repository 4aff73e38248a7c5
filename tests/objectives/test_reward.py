"""The Bradley-Terry objective: worked numbers, a brute-force loop, invariances."""

from __future__ import annotations

import math

import pytest
import torch

from align.errors import DataError
from align.objectives.reward import BradleyTerry, RankedRewards, order_metrics
from tests.formulas.rewards import list_loss


def ranked(
    rewards: list[list[float]], ranks: list[list[int]] | None = None, scores: list[list[float]] | None = None
) -> RankedRewards:
    width = max(map(len, rewards))

    def matrix(rows, fill):
        return torch.tensor([row + [fill] * (width - len(row)) for row in rows])

    ranks = ranks or [list(range(len(row))) for row in rewards]
    mask = matrix([[True] * len(row) for row in rewards], False)
    graded = matrix(scores, math.nan) if scores else torch.full(mask.shape, math.nan)
    return RankedRewards(matrix(rewards, 0.0).double(), matrix(ranks, 0), mask, graded.double())


def test_worked_numbers() -> None:
    # methods-preference 2
    assert BradleyTerry()(ranked([[0.7, 0.7]])).item() == pytest.approx(0.693147, abs=1e-6)
    assert BradleyTerry()(ranked([[1.0, 0.2]])).item() == pytest.approx(0.371101, abs=1e-6)
    with_margin = BradleyTerry(margin_scale=0.5)(ranked([[1.0, 0.2]], scores=[[1.0, 0.0]]))
    assert with_margin.item() == pytest.approx(0.554355, abs=1e-6)
    assert BradleyTerry(centering=0.01)(ranked([[1.0, 0.2]])).item() == pytest.approx(0.385501, abs=1e-6)


def test_lists_with_ties_and_different_lengths_equal_a_loop() -> None:
    rewards = [[0.3, -1.2, 0.8, 2.0], [1.5, 0.1]]
    ranks = [[0, 1, 1, 2], [0, 1]]
    scores = [[3.0, 2.0, 2.0, 0.5], [1.0, 0.0]]
    losses = BradleyTerry(centering=0.02, margin_scale=0.3)(ranked(rewards, ranks, scores))
    expected = [list_loss(r, k, [0.3 * x for x in s], 0.02) for r, k, s in zip(rewards, ranks, scores, strict=True)]
    assert losses.tolist() == pytest.approx(expected)


def test_weights_of_rows_count_in_all_metrics() -> None:
    found = order_metrics(ranked([[3.0, 1.0], [0.0, 2.0, 4.0]]), torch.tensor([0.5, 2.0]))
    means = {
        name: float((values.nan_to_num() * weights).sum() / weights.sum()) for name, (values, weights) in found.items()
    }
    expected = {"accuracy": 0.5 / 2.5, "rewards/chosen": 1.5 / 2.5, "rewards/rejected": (0.5 + 2 * 6) / 4.5}
    assert means == pytest.approx({**expected, "margin": (0.5 * 2 - 2 * 8 / 3) / 2.5})


def test_invariant_to_a_constant_without_centring() -> None:
    low, high = ranked([[1.0, 0.2, -0.3]]), ranked([[6.0, 5.2, 4.7]])
    assert BradleyTerry()(low).item() == pytest.approx(BradleyTerry()(high).item())
    assert BradleyTerry(centering=0.1)(low).item() != pytest.approx(BradleyTerry(centering=0.1)(high).item())


def test_tied_groups_and_padding_add_nothing() -> None:
    batch = ranked([[1.0, 1.0], [2.0, 1.0, 0.0]], [[0, 0], [0, 1, 2]])
    rewards = batch.rewards.requires_grad_()
    losses = BradleyTerry()(batch)
    losses.sum().backward()
    assert losses[0].item() == 0
    assert rewards.grad is not None
    assert rewards.grad[0].tolist() == [0, 0, 0]


def test_missing_scores_for_a_margin_are_an_error() -> None:
    with pytest.raises(DataError, match="margin_scale needs a score"):
        BradleyTerry(margin_scale=1.0)(ranked([[1.0, 0.0]]))


def test_gradcheck() -> None:
    batch = ranked([[0.3, -1.2, 0.8], [1.5, 0.1]], [[0, 1, 1], [0, 1]])
    objective = BradleyTerry(centering=0.05)
    rewards = batch.rewards.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda r: objective(batch._replace(rewards=r)), rewards)


@pytest.mark.parametrize("settings", [{"centering": -1}, {"margin_scale": -0.1}])
def test_refuses_negative_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        BradleyTerry(**settings)
