"""Options that nobody would read beside the others given: refused, so that none is accepted and ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from align.errors import ConfigError

Settings = Mapping[str, Any]
"""The arguments of a verb by name, defaults included."""


class Unused(NamedTuple):
    """Options that do nothing in some mode of a verb."""

    options: tuple[str, ...]
    """By their names on the command line; one that holds others stands for all of them."""
    when: Callable[[Settings], bool]
    """Tells that mode by the verb's settings."""
    reason: str
    """Names the setting that makes the mode, and what to do."""


def always(_: Settings) -> bool:
    """Return true: for what a verb never reads of a group of settings it shares with others."""
    return True


def without(name: str, default: Any = None) -> Callable[[Settings], bool]:
    """Return a test that an option is not given."""
    return lambda settings: settings[name] == default


def given(name: str) -> Callable[[Settings], bool]:
    """Return a test that an option is given."""
    return lambda settings: settings[name] is not None


def refuse_unused(rules: Iterable[Unused], named: Iterable[str], settings: Settings) -> None:
    """Raise ConfigError for the first option named that a rule says is not read."""
    known = list(named)
    for rule in rules:
        for option in rule.options:
            found = next((name for name in known if name == option or name.startswith(f"{option}.")), None)
            if found is not None and rule.when(settings):
                raise ConfigError(f"--{found}: {rule.reason}")


KEEP_COLUMNS = Unused(("keep_columns",), without("scorer"), "belongs to --scorer: name one, or leave it out")
REWARD_TOKENS = Unused(("reward_tokens",), without("rewards"), "belongs to --rewards: name a folder, or leave it out")
