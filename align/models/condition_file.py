"""How a model trained under conditions is asked, in a file beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from align.errors import ModelError
from align.models.files import local_folder, read_json
from align.records import Conditioning
from align.records.conditions import conditioning_of

CONDITION_FILE = "conditions.json"


class Conditions(NamedTuple):
    """What a model folder knows of its prompts."""

    conditioning: Conditioning
    asks: str
    """`direction` or `ratings`."""
    targets: list[tuple[float, ...]]
    """Ratings that go together in the training data, where the prompts asked for ratings."""


def write_condition_file(conditioning: Conditioning, asked: dict[str, Any], folder: Path) -> None:
    """Write form, attributes, arc and an example of a prompt's clause."""
    example = (
        conditioning.ratings(asked["targets"][-1])
        if asked["asks"] == "ratings"
        else conditioning.direction(conditioning.region.middle)
    )
    content = {**asked, "example": example, "conditioning": conditioning.plain()}
    (folder / CONDITION_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_condition_file(path: str) -> Conditions | None:
    """Return what a folder knows of its prompts; None for one without the file, and for a hub id.

    Raises ModelError for a file that cannot be understood.
    """
    folder = local_folder(path)
    if folder is None or not (folder / CONDITION_FILE).exists():
        return None
    content = read_json(folder / CONDITION_FILE)
    try:
        targets = [tuple(map(float, target)) for target in content["targets"]]
        return Conditions(conditioning_of(content["conditioning"]), str(content["asks"]), targets)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / CONDITION_FILE}: {error}") from error


def needed_conditions(path: str) -> Conditions:
    """Return what a folder knows of its prompts. Raises ModelError for one that was not trained under conditions."""
    found = read_condition_file(path)
    if found is None:
        raise ModelError(
            f"{path}: no {CONDITION_FILE}, so this model was not trained under directions: name a folder that "
            "DPARSFModule exported"
        )
    return found
