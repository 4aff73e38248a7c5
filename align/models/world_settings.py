"""Which synthetic world a model folder belongs to: what worlds share but their facts, so that mixing them is silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.errors import ConfigError
from align.models.folder_checks import ADAPTER_CONFIG, BASE_REPORT, base_of, local_folder, read_json

WORLD_KEY = "synthetic_world"
"""In config.json, which every model trained from the base inherits."""
DECISIVE = ("version", "seed", "entities", "held_out_entities", "facts")
"""Settings that decide what is true, and what was held out."""


def world_settings(path: str) -> dict[str, Any] | None:
    """Return the settings of the world a model folder or an adapter belongs to, None where none is known."""
    folder = local_folder(path)
    if folder is None:
        return None
    if (folder / ADAPTER_CONFIG).is_file():
        return world_settings(base_of(folder))
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if WORLD_KEY in config:
        return dict(config[WORLD_KEY])
    if (folder / BASE_REPORT).is_file():  # a base of before configurations told it: there was world 1 alone
        kept = read_json(folder / BASE_REPORT).get("settings", {})
        return {"version": 1, **{key: kept[key] for key in DECISIVE if key in kept and key != "seed"}}  # the run's seed
    return None


def check_same_world(first: tuple[str, Mapping[str, Any] | None], second: tuple[str, Mapping[str, Any] | None]) -> None:
    """Raise ConfigError where two things are of different synthetic worlds; what is not known is not compared.

    Args:
        first: What it is, as in `model runs/world/base`, and the settings of its world.
        second: The same of the other.
    """
    (name, own), (other_name, other) = first, second
    if own is None or other is None:
        return
    for key in DECISIVE:
        if key in own and key in other and own[key] != other[key]:
            raise ConfigError(
                f"{name} and {other_name} are of different synthetic worlds: {key} {own[key]} and "
                f"{other[key]}: give both the same (`world.{key}`), or take the files of one world"
            )
