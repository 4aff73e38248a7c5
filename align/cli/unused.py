"""Options that nobody would read beside the others given: refused, so that none is accepted and ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from align.errors import ConfigError
from align.models import backbone
from align.models.asked import asking_of

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


def greedy(settings: Settings) -> bool:
    """Return whether nothing is drawn at random."""
    return bool(settings["generation"].temperature == 0)


TRAINING = Unused(
    tuple(f"model.{name}" for name in backbone.TRAINING),
    always,
    "belongs to training, this verb only asks the model: leave it out",
)
HARNESS = Unused(
    ("model.check",),
    always,
    "belongs to align's own engines and layouts, lm-eval asks the model in its own way: leave it out",
)
PLAIN_TEXT = Unused(
    ("model.chat_template",),
    lambda settings: not settings["chat"] and not asking_of(settings["model"].path, settings["ask"]).puts,
    "belongs to --chat true, prompts are plain text: leave it out",
)
GREEDY = Unused(
    ("generation.seed",), greedy, "draws nothing at --generation.temperature 0: raise that, or leave it out"
)


def refuse_unused(rules: Iterable[Unused], named: Iterable[str], settings: Settings) -> None:
    """Raise ConfigError for the first option named that a rule says is not read."""
    known = list(named)
    for rule in rules:
        for option in rule.options:
            found = next((name for name in known if name == option or name.startswith(f"{option}.")), None)
            if found is not None and rule.when(settings):
                raise ConfigError(f"--{found}: {rule.reason}")
