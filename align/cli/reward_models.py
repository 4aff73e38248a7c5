"""The reward models a verb names: how far each reads, and what is told of dialogues it did not read whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from align.cli.evaluation_tables import name
from align.oracles.named_rewards import Tokens, named_rewards
from align.oracles.reward import RewardOracle


def reward_oracles(folders: Iterable[str] | Mapping[str, str], tokens: Tokens) -> dict[str, RewardOracle]:
    """Return the models of folders, by path or by the names given. Raises ConfigError for a number that none has."""
    paths = folders if isinstance(folders, Mapping) else {path: path for path in folders}
    return named_rewards(paths, tokens, called=name)


def tell_reading(oracles: Mapping[str, RewardOracle]) -> dict[str, dict[str, Any]]:
    """Print what was not read, or not whole, and return the counts of every model by its name or folder."""
    for oracle in oracles.values():
        if (note := oracle.note()) is not None:
            print(note)
    return {
        key: {
            "path": oracle.backbone.path,
            "reading": oracle.reading,
            "max_tokens": oracle.max_tokens,
            "dialogues": oracle.dialogues,
            "cut": oracle.cut,
            "unread": oracle.unread,
        }
        for key, oracle in oracles.items()
    }
