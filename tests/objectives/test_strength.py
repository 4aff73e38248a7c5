"""Losses that read the strength of a preference, against loops over pairs."""

from __future__ import annotations

import math

import pytest
import torch

from align.errors import ConfigError
from align.objectives.reward import BradleyTerry
from align.objectives.strength import LabelFlip, ScaledBradleyTerry, SoftLabel, StrengthObjective
from tests.formulas.rewards import strength_loss
from tests.objectives.test_reward import ranked

REWARDS = [[0.3, -1.2, 0.8, 2.0], [1.5, 0.1]]
RANKS = [[0, 1, 1, 2], [0, 1]]
SCORES = [[3.0, 2.0, 3.5, 0.5], [-1.0, 1.0]]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def soft(difference: float, strength: float) -> float:
    p = 1 / (1 + math.exp(-strength / 2))
    return -p * log_sigmoid(difference) - (1 - p) * log_sigmoid(-difference)


FORMULAS = [
    (ScaledBradleyTerry(), lambda d, s: -abs(s) * log_sigmoid(d)),
    (SoftLabel(temperature=2), soft),
    (LabelFlip(), lambda d, s: -log_sigmoid(d if s >= 0 else -d)),
    (LabelFlip(threshold=1), lambda d, s: -log_sigmoid(d if s >= -1 else -d)),
]


@pytest.mark.parametrize(("objective", "formula"), FORMULAS)
def test_lists_equal_a_loop(objective: StrengthObjective, formula) -> None:
    losses = objective(ranked(REWARDS, RANKS, SCORES))
    expected = [strength_loss(*group, formula) for group in zip(REWARDS, RANKS, SCORES, strict=True)]
    assert losses.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("objective", [o for o, _ in FORMULAS])
def test_gradcheck_and_missing_labels(objective: StrengthObjective) -> None:
    batch = ranked(REWARDS, RANKS, SCORES)
    rewards = batch.rewards.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda r: objective(batch._replace(rewards=r)), rewards)
    with pytest.raises(ValueError, match=f"{type(objective).__name__} needs a score for every response"):
        objective(ranked(REWARDS, RANKS))


def test_worked_numbers() -> None:
    pair = ranked([[1.0, 0.2]], scores=[[2.0, 0.0]])
    assert ScaledBradleyTerry()(pair).item() == pytest.approx(2 * 0.371101, abs=1e-5)  # -2 log sigmoid(0.8)
    # p = sigmoid(2) = 0.880797: 0.880797 * 0.371101 + 0.119203 * 1.171101
    assert SoftLabel()(pair).item() == pytest.approx(0.466463, abs=1e-5)
    wrong = ranked([[1.0, 0.2]], scores=[[0.0, 2.0]])
    assert LabelFlip()(wrong).item() == pytest.approx(1.171101, abs=1e-5)  # -log sigmoid(-0.8)


def test_identities() -> None:
    batch = ranked(REWARDS, RANKS, SCORES)
    plain = BradleyTerry()(batch)
    unit = batch._replace(scores=-batch.ranks.double())  # strength 1 or 2 in the first list, 1 in the second
    assert ScaledBradleyTerry()(unit)[1].item() == pytest.approx(plain[1].item())
    torch.testing.assert_close(LabelFlip()(unit), plain)
    torch.testing.assert_close(SoftLabel(temperature=1e-3)(unit), plain)


@pytest.mark.parametrize(("cls", "settings"), [(SoftLabel, {"temperature": 0}), (LabelFlip, {"threshold": -1})])
def test_settings_out_of_range(cls: type, settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must"):
        cls(**settings)
