"""The synthetic world that models are measured in: the one their folders say."""

from __future__ import annotations

from collections.abc import Sequence

from align.models.world_settings import check_same_world, world_settings
from align.world.universe import World


def world_of(paths: Sequence[str]) -> World:
    """Return the world of model folders; that of those which say none, such as models of one's own, is the first.

    Raises ConfigError for models of different worlds.
    """
    found = [(f"model {path}", settings) for path in paths if (settings := world_settings(path)) is not None]
    for other in found[1:]:
        check_same_world(found[0], other)
    return World.of(found[0][1]) if found else World()
