"""Several reward models by name, and how far each of them reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from align.errors import ConfigError, did_you_mean
from align.rewards.ray_reward_model import RayRewardModel
from align.rewards.reward_model_scorer import RewardModelScorer
from align.workers.ray_session import RaySession

Tokens = int | dict[str, int] | None
"""Longest dialogue that is read whole: one number for all reward models, or one by name."""


def named_rewards(
    folders: Mapping[str, str],
    tokens: Tokens,
    *,
    called: Callable[[str], str] = str,
    workers: RaySession | None = None,
) -> dict[str, RewardModelScorer]:
    """Return the models of folders by name. Raises ConfigError for a number that no model, or more than one, has.

    Args:
        folders: Their paths by name.
        tokens: How far they read; null takes that of their training, or their context.
        called: What `tokens` calls a name.
        workers: Hold the models in the place of this process.
    """
    most = limits([called(name) for name in folders], tokens)
    return {
        name: RayRewardModel(path, workers, max_tokens=limit) if workers else RewardModelScorer(path, max_tokens=limit)
        for (name, path), limit in zip(folders.items(), most, strict=True)
    }


def limits(names: list[str], tokens: Tokens) -> list[int | None]:
    """Return the limit of every model. Raises ConfigError for one that no model, or more than one, has."""
    for wanted in tokens if isinstance(tokens, dict) else ():
        if names.count(wanted) != 1:
            raise ConfigError(
                f"reward_tokens.{wanted}: expected the name of one of the reward models ({', '.join(names)})"
                + did_you_mean(wanted, names)
            )
    return [tokens.get(name) if isinstance(tokens, dict) else tokens for name in names]
