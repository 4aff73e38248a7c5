"""The file beside data of a synthetic world that says which world they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from align.errors import DataError
from align.strict_json import json_text
from align.world.universe import World

WORLD_FILE = "synthetic_world.json"


def write_world(folder: Path, world: World) -> None:
    """Write the settings of a world beside its data."""
    (folder / WORLD_FILE).write_text(json_text(world.settings, indent=1) + "\n", encoding="utf-8")


def file_world(path: str) -> dict[str, Any] | None:
    """Return the settings of the world that data files were drawn from by `align data world`, None for others.

    The file may lie in the folder of a format, or above it. Raises DataError for one that is damaged.
    """
    place = Path(path).expanduser()
    if not place.exists():
        return None
    file = next(
        (folder / WORLD_FILE for folder in (place, *place.parents[:2]) if (folder / WORLD_FILE).is_file()), None
    )
    if file is None:
        return None
    try:
        return World.of(json.loads(file.read_text(encoding="utf-8"))).settings
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file}: not the settings of a synthetic world ({error}): write the files again") from error
