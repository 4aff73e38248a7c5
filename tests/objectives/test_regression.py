"""Regression on ratings: worked numbers of the specification, missing labels, rescaling there and back."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch

from align.errors import ConfigError
from align.objectives.regression import Regression
from align.records import Labels, LabelScaling, Scale, StepTotals, combine
from tests.formulas.rewards import masked_squares

NAN = math.nan
TEN = Labels(tuple("abcdefghij"), (*[Scale(0, 4)] * 5, Scale(1, 10), *[Scale(1, 5)] * 4), (2.0,) * 10)
ROWS = torch.tensor(
    [[3, 3, 4, 2, 2, *[NAN] * 5], [*[NAN] * 5, 7, 4, 5, NAN, 3]], dtype=torch.float64
)  # methods-preference 3: one HelpSteer and one UltraFeedback row


def mean(objective: Regression, points: torch.Tensor, targets: torch.Tensor) -> float:
    counts = objective.counts(targets).sum()
    return (objective(points, targets).sum() / counts.clamp(min=1)).item()


class TestWorkedNumbers:
    def test_labels_become_points(self) -> None:
        points = Regression().rescaling(TEN).points(ROWS)
        assert points[0, :5].tolist() == pytest.approx([70, 70, 90, 50, 50])
        assert points[1, 5:].tolist() == pytest.approx([65, 70, 90, NAN, 50], nan_ok=True)
        grades = torch.tensor([[0.0] * 5 + [1.0] * 5, [4.0] * 5 + [10.0] + [5.0] * 4])
        assert Regression().rescaling(TEN).points(grades)[:, [0, 5, 6]].tolist() == [[10, 5, 10], [90, 95, 90]]
        ends = Regression(rescale="minmax").rescaling(TEN).points(grades)
        torch.testing.assert_close(ends, torch.tensor([[0.0] * 10, [100.0] * 10]))

    def test_losses(self) -> None:
        targets = Regression().rescaling(TEN).points(ROWS)
        fifty = torch.full_like(targets, 50)
        assert mean(Regression(unit=1), fifty, targets) == pytest.approx(513.8889, abs=1e-4)
        assert mean(Regression(), fifty, targets) == pytest.approx(1.284722, abs=1e-6)
        assert mean(Regression(unit=1, per_example=True), fifty, targets) == pytest.approx(518.125, abs=1e-4)


def test_a_loop_and_plain_mean_squares() -> None:
    draw = random.Random(0)
    points = [[draw.uniform(0, 100) for _ in range(4)] for _ in range(6)]
    targets = [[draw.choice([None, draw.uniform(0, 100)]) for _ in range(4)] for _ in range(6)]
    given = torch.tensor([[NAN if t is None else t for t in row] for row in targets], dtype=torch.float64)
    for per_example in (False, True):
        ours = mean(Regression(per_example=per_example), torch.tensor(points, dtype=torch.float64), given)
        assert ours == pytest.approx(masked_squares(points, targets, 20, per_example))
        full, p = torch.tensor(points[::-1]), torch.tensor(points)
        expected = torch.nn.functional.mse_loss(p, full).item() / 400
        assert mean(Regression(per_example=per_example), p, full) == pytest.approx(expected)


def test_missing_labels_give_no_gradient_and_no_nan() -> None:
    points = torch.tensor([[3.0, 5.0]], requires_grad=True)
    Regression(unit=1)(points, torch.tensor([[2.0, NAN]])).sum().backward()
    assert points.grad is not None
    assert points.grad.tolist() == [[2.0, 0.0]]  # methods-preference 3: (2, 0) instead of (2, NaN)


def test_no_label_at_all_is_zero_loss() -> None:
    points = torch.tensor([[3.0, 5.0]], requires_grad=True)
    for objective in (Regression(), Regression(per_example=True)):
        loss = objective(points, torch.full((1, 2), NAN)).sum() / objective.denominator(StepTotals(1, 4, 4))
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, points)
        assert gradient.tolist() == [[0, 0]]


def test_gradcheck() -> None:
    targets = Regression().rescaling(TEN).points(ROWS)
    points = (torch.rand(2, 10, dtype=torch.float64) * 100).requires_grad_()
    for objective in (Regression(), Regression(per_example=True)):
        assert torch.autograd.gradcheck(lambda p, o=objective: o(p, targets), points)


@pytest.mark.parametrize("rescale", ["midpoint", "minmax"])
def test_rescaling_and_back(rescale: str) -> None:
    rescaling = Regression(rescale=rescale).rescaling(TEN)
    torch.testing.assert_close(rescaling.labels(rescaling.points(ROWS)), ROWS, equal_nan=True)
    assert LabelScaling.of_plain(json.loads(json.dumps(rescaling.plain()))) == rescaling
    nothing = torch.zeros(1, 10, dtype=torch.float64)  # a head that knows nothing says the mean label
    torch.testing.assert_close(rescaling.labels(rescaling.points_of(nothing)), torch.full_like(nothing, 2))


def test_labels_without_a_scale_need_one() -> None:
    labels = Labels(("words", "x"), (None, Scale(0, 4)), (20.0, 1.0))
    with pytest.raises(
        ConfigError, match=r"words has no scale: give its lowest and highest label as objective\.scales"
    ):
        Regression().rescaling(labels)
    rescaling = Regression(scales={"words": [0, 40]}).rescaling(labels)
    assert rescaling.points(torch.tensor([[10.0, 2.0]])).tolist() == [[25, 50]]
    assert rescaling.offsets == (50, 30)


def test_data_that_cannot_be_learnt_from() -> None:
    with pytest.raises(ConfigError, match="the data has no labels"):
        Regression().rescaling(Labels())
    with pytest.raises(ConfigError, match="no label of b in the training split"):
        Regression().rescaling(Labels(("a", "b"), (Scale(0, 4),) * 2, (1.0, NAN)))


@pytest.mark.parametrize(
    "settings", [{"unit": 0}, {"lm_weight": -1}, {"scales": {"a": [1, 1]}}, {"scales": {"a": [1]}}]
)
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(ConfigError, match=r"must|expected"):
        Regression(**settings)


def test_direction() -> None:
    points = torch.tensor([[70.0, 60.0], [66.0, 45.0]])  # methods-preference 5.5
    turn = math.radians(-15)
    values = combine(points, ("helpfulness", "verbosity"), {"helpfulness": math.cos(turn), "verbosity": math.sin(turn)})
    assert values.tolist() == pytest.approx([52.086, 52.104], abs=1e-3)
    with pytest.raises(ConfigError, match=r"direction: no attribute humour \(there: a\)"):
        combine(points[:, :1], ("a",), {"humour": 1})
