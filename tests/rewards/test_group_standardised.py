"""Rewards within their groups: GDPO's advantages as TRL computes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from align.errors import ConfigError
from align.objectives.advantages import GroupAdvantage
from align.records import Example, Message
from align.rewards.group_standardised import GroupStandardised
from align.rewards.scorers import Direction, Scorer
from tests.formulas.policy_gradients import normalize_then_sum

SCORES = torch.tensor([[1.0, 5.0], [0.0, 5.0], [1.0, 5.0], [9.0, 7.0], [3.0, -1.0], [3.0, 2.0]], dtype=torch.float64)
"""Of two prompts with three samples; the second reward of the first is constant."""


class Table(Scorer):
    """Scores of responses that name a row."""

    attributes = ("right", "short")
    identity = "table"

    def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> torch.Tensor:
        return SCORES[[int(response) for response in responses]]


def test_advantages_are_those_of_trl() -> None:
    scorer, weights = GroupStandardised(Table()), {"right_in_group": 1.0, "short_in_group": 0.5}
    examples = [Example(name, (Message("user", "?"),)) for name in ("a", "b") for _ in range(3)]
    order = [3, 0, 5, 1, 4, 2]  # samples need not stand prompt by prompt
    found = scorer.score_examples([examples[n] for n in order], [str(n) for n in order])
    rows = found[[order.index(n) for n in range(6)]]
    assert torch.equal(rows[:, :2], SCORES)
    assert rows[:3, 3].tolist() == [0, 0, 0]
    rewards = np.array([Direction(weights).of(scorer.attributes, row) for row in rows.tolist()])
    advantages = GroupAdvantage("none", "advantages")(rewards, np.array([3, 3]))
    theirs = normalize_then_sum(SCORES, torch.tensor([1.0, 0.5]).double(), samples=3)
    np.testing.assert_allclose(advantages, theirs.numpy(), rtol=1e-12)


def test_a_missing_score_is_left_out_of_its_group() -> None:
    scorer = GroupStandardised(Table())
    scores = torch.tensor([[1.0, math.nan], [3.0, 2.0], [math.nan, 4.0]], dtype=torch.float64)
    found = scorer.derived(scores, ["a", "a", "a"])[:, 2:]
    half = 1 / (math.sqrt(2) + 1e-4)
    torch.testing.assert_close(
        found, torch.tensor([[-half, math.nan], [half, -half], [math.nan, half]]).double(), equal_nan=True
    )
    assert scorer.derived(scores[:1], ["a"])[0, 2] == 0


def test_prompts_group_responses_and_names_do_not_meet() -> None:
    scorer = GroupStandardised(Table())
    half = 0.5 / (math.sqrt(0.5) + 1e-4)
    asked = [[Message("user", "a")], [Message("user", "b")], [Message("user", "a")]]
    assert scorer.score(asked, ["0", "1", "1"])[:, 2].tolist() == pytest.approx([half, 0, -half], rel=1e-12)
    assert scorer.compares
    with pytest.raises(ConfigError, match="right_in_group is an attribute of the scorer already"):
        _ = GroupStandardised(type("Named", (Table,), {"attributes": ("right", "right_in_group")})()).attributes
