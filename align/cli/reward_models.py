"""The reward models a verb names: how far each reads, and what is told of dialogues it did not read whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from align.cli.evaluation_tables import name
from align.errors import ConfigError, did_you_mean
from align.oracles.reward import RewardOracle

Tokens = int | dict[str, int] | None
"""Longest dialogue that is read whole: one number for all reward models, or one by name."""


def reward_oracles(folders: Iterable[str], tokens: Tokens) -> dict[str, RewardOracle]:
    """Return the models of folders. Raises ConfigError for a number that no folder has."""
    named = {path: name(path) for path in folders}
    for wanted in tokens if isinstance(tokens, dict) else ():
        if list(named.values()).count(wanted) != 1:
            known = ", ".join(named.values())
            raise ConfigError(
                f"reward_tokens.{wanted}: expected the name of one of the reward models ({known})"
                + did_you_mean(wanted, list(named.values()))
            )
    most = {path: tokens.get(short) if isinstance(tokens, dict) else tokens for path, short in named.items()}
    return {path: RewardOracle(path, max_tokens=limit) for path, limit in most.items()}


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
