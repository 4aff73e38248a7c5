"""The option that lets model folders bring Python of their own: on the command line, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from align.cli.verbs import LOADS_MODELS, command_of
from align.errors import ConfigError
from align.models.foreign_code import OPTION, is_trusted, trust_foreign_code

VALUES = {"true": True, "false": False}


def take_trust(words: Sequence[str]) -> list[str]:
    """Set for this process what the command line says, and return the command without the option.

    Raises ConfigError for a verb that loads no model, and for another value than true or false.
    """
    left, trusted, place = list(words), False, 0
    while place < len(left):
        name, equals, value = left[place].partition("=")
        if name != OPTION:
            place += 1
            continue
        command = " ".join(command_of(left))
        if command not in LOADS_MODELS:
            raise ConfigError(f"{OPTION}: align {command} loads no model: leave it out")
        if not equals and left[place + 1 : place + 2] and left[place + 1] in VALUES:
            value = left.pop(place + 1)
        if (value or "true") not in VALUES:
            raise ConfigError(f"{OPTION} {value!r}: expected true or false")
        trusted = VALUES[value or "true"]
        del left[place]
    trust_foreign_code(trusted)
    return left


def given_trust() -> list[str]:
    """Return the option as it was given, for processes that run the same command."""
    return [OPTION] if is_trusted() else []
