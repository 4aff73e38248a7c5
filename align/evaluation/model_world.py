"""The synthetic world that models are measured in: the one their folders say, or the one that is named."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

from align.errors import ConfigError
from align.models.folder_checks import local_folder
from align.models.world_settings import WORLD_KEY, check_same_world, world_settings
from align.world.universe import World

NAME_IT = "name the world it belongs to, as in --world.seed 0, if it was trained on the data of one"
"""What a user can do about a model whose folder says nothing."""


def world_of(paths: Sequence[str], given: World | None = None, *, way_out: str = NAME_IT) -> World:
    """Return the world of model folders.

    Args:
        paths: The folders.
        given: The world of those which say none; what they say must be the same.
        way_out: What can be done about those.

    Raises ConfigError for models of different worlds, and for one that says none where none is given: what it says of
    a world it never saw is worth nothing, and would be measured as if it were.
    """
    found = known_worlds(paths)
    named = None if given is None else given.settings
    for path, settings in found.items():
        check_same_world(("--world", named), (f"model {path}", settings))
        if named is None and settings is None and local_folder(path) is None:
            raise ConfigError(
                f"model {path}: no such folder, and a model of the hub is of no synthetic world; {way_out}"
            )
        if named is None and settings is None:
            raise ConfigError(
                f"model {path}: of no synthetic world: its config.json has no {WORLD_KEY}, which `align init world` "
                f"writes and what is trained from it inherits; {way_out}"
            )
    merged = {key: value for settings in found.values() for key, value in (settings or {}).items()}
    if named is None and "seed" not in merged:
        warnings.warn(
            f"model {next(iter(found))}: it does not say the seed of its world, so 0 is taken: {way_out}", stacklevel=2
        )
    return World.of({**(named or {}), **merged})


def known_worlds(paths: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """Return the settings of the world that each folder says, None where it says none.

    Raises ConfigError for models of different worlds.
    """
    found = {path: world_settings(path) for path in paths}
    for first, second in itertools.combinations(found, 2):
        check_same_world((f"model {first}", found[first]), (f"model {second}", found[second]))
    return found
