"""PPO by hand: the worked numbers of the specification (section 11), and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from align.errors import ConfigError
from align.objectives.generalized_advantage import generalized_advantages, whitened
from align.objectives.proximal import PPO, AdaptiveKL
from align.objectives.surrogates import ClippedRatio
from align.records import SampledTokens
from tests.formulas.proximal import advantages_of_trl

REWARDS, VALUES = np.array([-0.01, 0.02, 0.97]), np.array([0.2, 0.4, 0.5])


def tokens(**columns: list[float]) -> SampledTokens:
    """One sample of so many tokens."""
    size = len(next(iter(columns.values())))
    given = {name: torch.zeros(size) for name in ("logprobs", "old_logprobs", "advantages", "entropies")}
    given |= {name: torch.tensor(values) for name, values in columns.items()}
    return SampledTokens(**given, counted=torch.ones(size), counts=torch.tensor([size]))


def test_advantages_and_returns_by_hand() -> None:
    found = generalized_advantages(REWARDS, VALUES, np.array([3]), gamma=1.0, lam=0.95)
    np.testing.assert_allclose(found.advantages, [0.728175, 0.5665, 0.47], atol=1e-6)
    np.testing.assert_allclose(found.returns, [0.928175, 0.9665, 0.97], atol=1e-6)
    np.testing.assert_allclose(whitened(found.advantages), [1.072813, -0.166537, -0.906276], atol=1e-5)


def test_samples_side_by_side_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([1, 4, 2, 7])
    rewards, values = rng.normal(size=14), rng.normal(size=14)
    found = generalized_advantages(rewards, values, lengths, gamma=0.9, lam=0.8)
    ends = np.cumsum(lengths)
    for first, last in zip(ends - lengths, ends, strict=True):
        own = generalized_advantages(
            rewards[first:last], values[first:last], np.array([last - first]), gamma=0.9, lam=0.8
        )
        np.testing.assert_allclose(found.advantages[first:last], own.advantages)


def test_without_values_and_decay_the_advantage_is_the_reward_to_go() -> None:
    found = generalized_advantages(REWARDS, np.zeros(3), np.array([3]), gamma=1.0, lam=1.0)
    np.testing.assert_allclose(found.advantages, np.cumsum(REWARDS[::-1])[::-1])


def test_the_score_stands_at_the_last_token_and_the_divergence_at_every_one() -> None:
    objective = PPO(whiten_advantages=False, lam=1.0)
    divergence = np.array([0.1, 0.2, 0.3, 0.5])
    found = objective.estimates(np.array([2.0, -1.0]), divergence, np.zeros(4), np.array([3, 1]), kl_coef=0.5)
    last = [2.0 - 0.15, -1.0 - 0.25]
    np.testing.assert_allclose(found.returns, [last[0] - 0.15, last[0] - 0.1, last[0], last[1]])


def test_a_score_behind_the_end_by_hand() -> None:
    """Of (-.01, .02) and a score of .95 behind them, values .2, .4 and .5: the example above with its score moved."""
    objective, divergence = PPO(score_at="eos_plus_one", whiten_advantages=False), np.array([0.01, -0.02])
    found = objective.estimates(
        np.array([0.97]), divergence, VALUES[:2], np.array([2]), kl_coef=1.0, end_values=VALUES[2:]
    )
    np.testing.assert_allclose(found.advantages, [0.728175, 0.5665], atol=1e-6)
    np.testing.assert_allclose(found.returns, [0.928175, 0.9665], atol=1e-6)
    np.testing.assert_allclose(found.end_returns, [0.97], atol=1e-6)


@pytest.mark.parametrize("whiten_rewards", [False, True])
def test_scores_behind_ends_are_those_of_trl(whiten_rewards: bool) -> None:
    """Of samples that ended, and of one cut off at the longest length, whose score stands at its last token."""
    rng, lengths, finished = np.random.default_rng(1), np.array([3, 6, 1, 5]), np.array([True, False, True, True])
    size, ends = int(lengths.sum()), rng.normal(size=4)
    divergence, values, scores = rng.normal(size=size), rng.normal(size=size), rng.normal(size=4)
    objective = PPO(score_at="eos_plus_one", gamma=0.9, lam=0.8, whiten_rewards=whiten_rewards)
    end_values = np.where(finished, ends, np.nan)
    found = objective.estimates(scores, divergence, values, lengths, kl_coef=0.3, end_values=end_values)
    theirs = advantages_of_trl(
        *(np.split(column, np.cumsum(lengths)[:-1]) for column in (divergence, values)),
        end_values=ends,
        scores=scores,
        width=6,
        kl_coef=0.3,
        gamma=0.9,
        lam=0.8,
        whiten_rewards=whiten_rewards,
    )
    for row, (length, ended) in enumerate(zip(lengths, finished, strict=True)):
        own = slice(int(lengths[:row].sum()), int(lengths[: row + 1].sum()))
        np.testing.assert_allclose(found.advantages[own], theirs[0][row, :length], rtol=1e-6)
        np.testing.assert_allclose(found.returns[own], theirs[1][row, :length], rtol=1e-6)
        assert found.end_returns is not None
        expected = theirs[1][row, length] if ended else np.nan
        np.testing.assert_allclose(found.end_returns[row], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "clips"),
    [(1.0, 1.5, -1.2, True), (1.0, 0.5, -0.5, False), (-1.0, 1.5, 1.5, False), (-1.0, 0.5, 0.8, True)],
)
def test_the_clip_by_hand(advantage: float, ratio: float, loss: float, clips: bool) -> None:
    found, clipped = PPO()(tokens(logprobs=[float(np.log(ratio))], advantages=[advantage]))
    assert found.item() == pytest.approx(loss)
    assert clipped.item() is clips


def test_the_critic_by_hand() -> None:
    """From an old value of 0, clipped at .2: to 1 with a return of 2 the clipped error counts, (2 - .2)^2 / 2."""
    given = tokens(values=[1.0, 0.1], old_values=[0.0, 0.0], returns=[2.0, 0.5])
    losses, clipped = PPO().value_losses(given)
    torch.testing.assert_close(losses, torch.tensor([1.62, 0.08]))
    assert clipped.tolist() == [True, False]
    torch.testing.assert_close(PPO(cliprange_value=None).value_losses(given)[0], torch.tensor([0.5, 0.08]))


def test_the_coefficient_follows_its_target() -> None:
    """Ziegler et al.: the error is cut at .2; 100 samples of a horizon of 1000 move it by a tenth of that."""
    control = AdaptiveKL(target=6.0, horizon=1000)
    assert control.next(0.1, 60.0, 100) == pytest.approx(0.1 * 1.02)
    assert control.next(0.1, 0.0, 100) == pytest.approx(0.1 * 0.98)
    assert control.next(0.1, 6.6, 100) == pytest.approx(0.1 * 1.01)


def test_scores_are_normalised_then_clipped() -> None:
    rewards = np.array([0.0, 0.0, 0.0, 10.0])
    assert PPO(normalize_scores=True, clip_scores=1.0).scores(rewards).max() == 1.0
    np.testing.assert_allclose(np.std(PPO(normalize_scores=True).scores(rewards), ddof=1), 1.0, atol=1e-6)
    assert PPO(clip_scores=3.0).scores(rewards).tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize(
    "options",
    [
        {"kl_coef": -0.1},
        {"lam": 1.1},
        {"cliprange_value": 0.0},
        {"ratio_threshold": 1.0},
        {"kl_coef": 0.0, "adaptive_kl": AdaptiveKL()},
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PPO(**options)
    with pytest.raises(ConfigError):
        AdaptiveKL(target=0.0)
    with pytest.raises(ConfigError):
        ClippedRatio(-0.1)
