"""How rewards order responses: by hand, by scipy, by sklearn; intervals by scipy's bootstrap and a closed form."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from align.evaluation.preference_ranking import (
    RankedRow,
    over_prompts,
    ranking_values,
)
from align.strict_json import json_text


@pytest.mark.parametrize(
    ("ranks", "rewards", "expected"),
    [
        ((0, 1), (2.0, 1.0), (1, 1, 1)),
        ((0, 1), (1.0, 2.0), (0, 0, -1)),
        ((0, 1), (1.0, 1.0), (0.5, 0.5, 0)),
        ((0, 1, 2), (3.0, 1.0, 2.0), (2 / 3, 1, 1 / 3)),  # one of three pairs in reverse: (2 - 1) / 3
        ((0, 0, 1), (1.0, 2.0, 0.0), (1, 1, 2 / math.sqrt(2 * 3))),  # tau-b: 2 concordant, the data's tie counts
        ((0, 1, 1), (1.0, 5.0, 0.0), (0.5, 0, 0)),
    ],
)
def test_by_hand(ranks: tuple[int, ...], rewards: tuple[float, ...], expected: tuple[float, ...]) -> None:
    assert ranking_values(ranks, rewards) == pytest.approx(expected)


def test_against_scipy_and_sklearn() -> None:
    """Two levels of rank: the share of ordered pairs is the area under the ROC curve."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        ranks = rng.integers(0, 2, 6)
        rewards = rng.normal(size=6).round(1)
        if len(set(ranks)) < 2:
            continue
        accuracy, _, tau = ranking_values(tuple(ranks), tuple(rewards))
        assert accuracy == pytest.approx(roc_auc_score(1 - ranks, rewards))
        assert tau == pytest.approx(stats.kendalltau([-rank for rank in ranks], rewards)[0])


def test_what_was_not_read_or_has_no_order_has_no_value() -> None:
    assert all(map(math.isnan, ranking_values((0, 1), (1.0, math.nan))))
    assert all(map(math.isnan, ranking_values((0, 0), (1.0, 2.0))))
    row = RankedRow("a", "p", (0, 1), {"x": [1.5, math.nan]})
    found = RankedRow.of(json.loads(json_text(row.as_dict())))
    assert found.rewards["x"][0] == 1.5
    assert math.isnan(found.rewards["x"][1])


def test_rows_of_one_prompt_are_drawn_together() -> None:
    """Ten copies of every row tell nothing new: the interval is that of scipy's bootstrap over the rows themselves."""
    own = np.random.default_rng(1).normal(size=60)
    prompts = [str(n % 60) for n in range(600)]
    found = over_prompts(prompts, np.tile(own, 10))
    usual = stats.bootstrap((own,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(2))
    assert found.value == pytest.approx(own.mean())
    assert found[1:] == pytest.approx(usual.confidence_interval, abs=0.03)
    left_out = np.where(np.arange(600) < 300, np.tile(own, 10), np.nan)
    assert over_prompts(prompts, left_out).value == pytest.approx(own.mean())
