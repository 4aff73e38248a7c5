"""The reward models a verb names: how far each reads, and what is told of dialogues it did not read whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.cli.evaluation_tables import name
from align.rewards.named_rewards import Tokens, named_rewards
from align.rewards.reward_model_scorer import RewardModelScorer

RewardFolders = dict[str, str] | list[str]
"""Reward model folders, by name or one after the other."""


def load_reward_models(folders: RewardFolders, tokens: Tokens) -> dict[str, RewardModelScorer]:
    """Return the models of folders, by path or by the names given. Raises ConfigError for a number that none has."""
    paths = folders if isinstance(folders, dict) else {path: path for path in folders}
    return named_rewards(paths, tokens, called=name)


def tell_reading(reward_models: Mapping[str, RewardModelScorer]) -> dict[str, dict[str, Any]]:
    """Print what was not read, or not whole, and return the counts of every model by its name or folder."""
    for reward_model in reward_models.values():
        if (note := reward_model.note()) is not None:
            print(note)
    return {
        key: {
            "path": reward_model.backbone.path,
            "reading": reward_model.reading,
            "max_tokens": reward_model.max_tokens,
            "dialogues": reward_model.dialogues,
            "cut": reward_model.cut,
            "unread": reward_model.unread,
        }
        for key, reward_model in reward_models.items()
    }
