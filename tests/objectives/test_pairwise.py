"""Pairwise objectives: worked numbers of the specification, identities, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from align.objectives.pairwise import DPO, IPO, Hinge
from align.records import PairScores


def scores(chosen: float, rejected: float, lengths: tuple[int, int] = (1, 1)) -> PairScores:
    values = [torch.tensor([v], dtype=torch.float64) for v in (chosen, rejected)]
    return PairScores(*values, torch.tensor([lengths[0]]), torch.tensor([lengths[1]]))


POLICY, REFERENCE = scores(-10, -14), scores(-11, -12)


class TestDPO:
    def test_worked_numbers(self) -> None:
        # methods-preference 7: h = 0.1 * (1 - (-2)) = 0.3, loss = log(1 + exp(-0.3))
        assert DPO(0.1)(POLICY, REFERENCE).item() == pytest.approx(0.554355, abs=1e-6)
        assert DPO(0.1, label_smoothing=0.1)(POLICY, REFERENCE).item() == pytest.approx(0.584355, abs=1e-6)
        assert DPO(0.1).rewards(POLICY, REFERENCE).tolist() == [pytest.approx([0.1, -0.2])]

    @pytest.mark.parametrize(("beta", "loss"), [(0.01, 0.678260), (1, 0.048587), (10, 9.36e-14)])
    def test_worked_numbers_over_beta(self, beta: float, loss: float) -> None:
        assert DPO(beta)(POLICY, REFERENCE).item() == pytest.approx(loss, rel=1e-3)

    def test_log_two_without_a_difference(self) -> None:
        assert DPO(0.5)(POLICY, POLICY).item() == math.log(2)

    def test_gradient_is_minus_beta_times_the_probability_of_being_wrong(self) -> None:
        chosen = torch.tensor([-10.0], dtype=torch.float64, requires_grad=True)
        DPO(0.1)(POLICY._replace(chosen=chosen), REFERENCE).backward()
        assert chosen.grad is not None
        assert chosen.grad.item() == pytest.approx(-0.1 * 0.425557, abs=1e-7)

    def test_swapping_the_pair_negates_the_margin(self) -> None:
        def swapped(s: PairScores) -> PairScores:
            return PairScores(s.rejected, s.chosen, s.rejected_lengths, s.chosen_lengths)

        h = DPO(0.1).margin(POLICY, REFERENCE)
        assert DPO(0.1).margin(swapped(POLICY), swapped(REFERENCE)).item() == pytest.approx(-h.item())

    def test_a_constant_on_both_reference_scores_changes_nothing(self) -> None:
        moved = scores(-11 + 7, -12 + 7)
        assert DPO(0.1)(POLICY, moved).item() == pytest.approx(DPO(0.1)(POLICY, REFERENCE).item(), rel=1e-12)

    def test_smoothing_is_the_expected_loss_over_flipped_labels(self) -> None:
        plain = DPO(0.3)(POLICY, REFERENCE)
        flipped = -torch.nn.functional.logsigmoid(-DPO(0.3).margin(POLICY, REFERENCE))
        torch.testing.assert_close(DPO(0.3, 0.2)(POLICY, REFERENCE), 0.8 * plain + 0.2 * flipped)

    @pytest.mark.parametrize("settings", [{"beta": 0}, {"beta": -1}, {"label_smoothing": 0.5}, {"beta": float("nan")}])
    def test_refuses_settings_out_of_range(self, settings: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=r"beta must be positive|label_smoothing must lie"):
            DPO(**settings)


class TestIPO:
    def test_closed_form(self) -> None:
        # sequence: difference of log-ratios 1 - (-2) = 3, target 1 / (2 * 0.1) = 5
        assert IPO(0.1, "sequence")(POLICY, REFERENCE).item() == pytest.approx(4)
        # token: 1 / 2 - (-2) / 4 = 1 against 5
        policy = scores(-10, -14, (2, 4))
        assert IPO(0.1, "token")(policy, REFERENCE).item() == pytest.approx(16)

    def test_minimum_at_the_target(self) -> None:
        assert IPO(0.1, "sequence")(scores(0, -5), scores(0, 0)).item() == pytest.approx(0)


def test_hinge_is_zero_beyond_the_margin() -> None:
    assert Hinge(0.1)(POLICY, REFERENCE).item() == pytest.approx(0.7)
    assert Hinge(1.0)(POLICY, REFERENCE).item() == 0


@pytest.mark.parametrize("objective", [DPO(0.3), DPO(0.3, 0.1), IPO(0.3), IPO(0.3, "sequence"), Hinge(0.3)])
def test_gradcheck(objective) -> None:
    torch.manual_seed(0)
    chosen, rejected = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    reference = PairScores(*torch.randn(2, 3, dtype=torch.float64), torch.tensor([1, 2, 3]), torch.tensor([3, 1, 2]))
    assert torch.autograd.gradcheck(
        lambda c, r: objective(reference._replace(chosen=c, rejected=r), reference), (chosen, rejected)
    )
