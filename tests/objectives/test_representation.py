"""RAHF's loss: the worked example, identities, gradients."""

from __future__ import annotations

import pytest
import torch

from align.objectives.representation import RepresentationAlignment

# two layers, three tokens of which the third is padding; alpha 5, width 2, B = 0, so that the policy is the base
V = torch.tensor([[[0.3, 0.4], [0.0, 0.0], [9.0, 9.0]], [[1.0, 0.0], [0.6, 0.8], [9.0, 9.0]]])
BASE = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([1.0, 1.0, 0.0])


def mean(objective: RepresentationAlignment, delta: torch.Tensor) -> float:
    errors = objective(BASE + delta, objective.target(BASE, V)) * MASK
    return (errors.sum() / (2 * (MASK.sum() if objective.reduction == "token" else 3))).item()


def test_worked_example() -> None:
    """Norms of v: .5, 0, 1, 1. l2: 5 * 2.5 / 4; over the window 12.5 / 6; mse: 25 * 2.25 / (4 * 2)."""
    zero = torch.zeros_like(V)
    assert mean(RepresentationAlignment(), zero) == pytest.approx(3.125, rel=1e-6)
    assert mean(RepresentationAlignment(reduction="window"), zero) == pytest.approx(12.5 / 6, rel=1e-6)
    assert mean(RepresentationAlignment(loss="mse"), zero) == pytest.approx(7.03125, rel=1e-6)
    assert mean(RepresentationAlignment(), 2.5 * V) == pytest.approx(1.5625, rel=1e-6)
    assert mean(RepresentationAlignment(), 5 * V) == pytest.approx(0, abs=1e-6)


def test_zero_alpha_at_the_start_has_zero_loss_and_finite_zero_gradients() -> None:
    for loss in ("l2", "mse"):
        objective = RepresentationAlignment(alpha=0, loss=loss)
        policy = BASE.clone().requires_grad_()
        value = objective(policy, objective.target(BASE, V)).sum()
        value.backward()
        assert value.item() == 0
        assert policy.grad is not None
        assert torch.equal(policy.grad, torch.zeros_like(BASE))


def test_start_scales_with_alpha_and_swapping_instructions_is_a_sign() -> None:
    zero = torch.zeros_like(V)
    for loss, factor in (("l2", 2), ("mse", 4)):
        once, twice = (mean(RepresentationAlignment(alpha=a, loss=loss), zero) for a in (3, 6))
        assert twice == pytest.approx(factor * once, rel=1e-6)
        delta = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(1))
        policy = BASE + delta
        plus, minus = RepresentationAlignment(alpha=2, loss=loss), RepresentationAlignment(alpha=-2, loss=loss)
        assert torch.equal(plus(policy, plus.target(BASE, V)), minus(policy, minus.target(BASE, -V)))


def test_nan_is_not_skipped() -> None:
    objective = RepresentationAlignment()
    broken = BASE.clone()
    broken[0, 0, 0] = torch.nan
    assert objective(broken, objective.target(BASE, V)).isnan().any()


def test_target_has_no_gradient_and_is_float32() -> None:
    base = BASE.bfloat16().requires_grad_()
    target = RepresentationAlignment().target(base, V.bfloat16())
    assert target.dtype == torch.float32
    assert not target.requires_grad


def test_clipping_and_scaling_of_v() -> None:
    base = torch.tensor([[[3.0, 4.0], [0.3, 0.4]]])  # norms 5 and .5
    v = torch.tensor([[[2.0, 0.0], [0.0, 0.02]]])
    clipped = RepresentationAlignment(clip_v_relative=0.1).direction(base, v)
    torch.testing.assert_close(clipped, torch.tensor([[[0.5, 0.0], [0.0, 0.02]]]))  # at most .5 and .05
    unit = RepresentationAlignment(normalize_v="unit").direction(base, v)
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(1, 2))
    rms = RepresentationAlignment(normalize_v="rms_h").direction(base, v)
    torch.testing.assert_close(rms.norm(dim=-1), torch.full((1, 2), (25.25 / 2) ** 0.5))
    halved = RepresentationAlignment(clip_v_quantile=0.5).direction(base, v)
    torch.testing.assert_close(halved.norm(dim=-1), torch.tensor([[1.01, 0.02]]))  # the median of .02 and 2
    zero = RepresentationAlignment(normalize_v="unit", clip_v_relative=0.1).direction(base, torch.zeros_like(v))
    assert torch.equal(zero, torch.zeros_like(v))


def test_gradcheck() -> None:
    policy = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 3, 4, dtype=torch.float64)

    for loss in ("l2", "mse"):
        assert torch.autograd.gradcheck(lambda p, o=RepresentationAlignment(loss=loss): o(p, target), policy)


@pytest.mark.parametrize("options", [{"clip_v_relative": 0.0}, {"clip_v_quantile": 0.0}, {"clip_v_quantile": 1.5}])
def test_bad_settings(options) -> None:
    with pytest.raises(ValueError, match="clip_v"):
        RepresentationAlignment(**options)
