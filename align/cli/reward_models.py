"""The reward models a verb names: how far each reads, and what is told of dialogues it did not read whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from align.cli.evaluation_tables import name
from align.oracles.named_rewards import Tokens, limits
from align.oracles.reward import RewardOracle


def reward_oracles(folders: Iterable[str], tokens: Tokens) -> dict[str, RewardOracle]:
    """Return the models of folders. Raises ConfigError for a number that no folder has."""
    paths = list(dict.fromkeys(folders))
    most = limits([name(path) for path in paths], tokens)
    return {path: RewardOracle(path, max_tokens=limit) for path, limit in zip(paths, most, strict=True)}


def tell_reading(oracles: Mapping[str, RewardOracle]) -> dict[str, dict[str, Any]]:
    """Print what was not read, or not whole, and return the counts of every model by its folder."""
    for oracle in oracles.values():
        if (note := oracle.note()) is not None:
            print(note)
    return {
        path: {
            "reading": oracle.reading,
            "max_tokens": oracle.max_tokens,
            "dialogues": oracle.dialogues,
            "cut": oracle.cut,
            "unread": oracle.unread,
        }
        for path, oracle in oracles.items()
    }
