"""How a model is asked, in a file beside its weights: what its prompts were trained under, and what is usual."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from align.errors import ModelError
from align.models.folder_checks import local_folder, read_json
from align.records import Conditioning, Instructions
from align.records.asking import Ask, Scores
from align.records.conditions import conditioning_of

CONDITION_FILE = "conditions.json"
STEERING_FILE = "steering/vectors.safetensors"
"""Vectors of a folder that is steered; below it, since loaders take every safetensors file of a folder for weights."""


class Conditions(NamedTuple):
    """Prompts that ask for a direction, or for ratings."""

    conditioning: Conditioning
    asks: str
    """`direction` or `ratings`."""
    targets: list[tuple[float, ...]]
    """Ratings that go together in the training data, where the prompts asked for ratings."""

    @property
    def best(self) -> tuple[float, ...]:
        """Return the target of the highest first rating."""
        return max(self.targets, key=lambda target: target[0])


Form = Conditions | Instructions | Scores
"""What prompts were trained under."""


def write_condition_file(form: Form | None, folder: Path, ask: Ask | None = None) -> None:
    """Write what prompts were trained under, with an example, and what is usual where that is something else."""
    content: dict[str, Any] = {"asks": "nothing"} if form is None else plain_form(form)
    if ask is not None and (usual := ask.given()):
        if ask.steer is not None:
            usual["steer"] = _kept(Path(ask.steer), folder / STEERING_FILE)
        if ask.instructions is not None:
            usual["instructions"] = asdict(ask.instructions)
        content["usual"] = usual
    if len(content) > 1:
        (folder / CONDITION_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _kept(vectors: Path, place: Path) -> str:
    """Copy vectors with their note and return where they are in the folder."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        for ending in (".safetensors", ".json"):
            if ending == ".safetensors" or vectors.with_suffix(ending).exists():
                shutil.copy2(vectors.with_suffix(ending), place.with_suffix(ending))
    except OSError as error:
        raise ModelError(f"vectors {vectors}: {error.strerror}") from error
    return STEERING_FILE


def plain_form(form: Form) -> dict[str, Any]:
    """Return plain values of a form, which `form_of` reads."""
    if isinstance(form, Instructions):
        return {"asks": "instruction", "example": form.positive, "instructions": asdict(form)}
    if isinstance(form, Scores):
        return {"asks": "scores", **form._asdict()}
    rated = form.asks == "ratings"
    own = form.conditioning
    example = own.ratings(form.best) if rated else own.direction(own.region.middle)
    return {"asks": form.asks, "targets": form.targets, "example": example, "conditioning": own.plain()}


def form_of(content: Mapping[str, Any]) -> Form | None:
    """Return the form of plain values. Raises ValueError, KeyError or TypeError where they are none."""
    asks = content["asks"]
    if asks == "instruction":
        return Instructions(**content["instructions"])
    if asks == "scores":
        names, high = tuple(map(str, content["names"])), tuple(map(float, content["high"]))
        if len(names) != len(high):
            raise ValueError(f"{len(names)} names and {len(high)} high scores")
        return Scores(str(content["template"]), int(content["decimals"]), names, high)
    if asks in ("direction", "ratings"):
        targets = [tuple(map(float, target)) for target in content["targets"]]
        if asks == "ratings" and not targets:
            raise ValueError("asks for ratings, and targets names none")
        return Conditions(conditioning_of(content["conditioning"]), asks, targets)
    if asks != "nothing":
        raise ValueError(f"asks for {asks!r}, expected direction, ratings, instruction, scores or nothing")
    return None


def read_asking(path: str) -> tuple[Form | None, Ask]:
    """Return what the prompts of a folder were trained under and how it is usually asked; nothing without the file.

    Raises ModelError for a file that cannot be understood.
    """
    folder = local_folder(path)
    if folder is None or not (folder / CONDITION_FILE).exists():
        return None, Ask()
    content = read_json(folder / CONDITION_FILE)
    try:
        usual = dict(content.get("usual", {}))
        if usual.get("instructions") is not None:
            usual["instructions"] = Instructions(**usual["instructions"])
        if usual.get("steer") is not None:
            usual["steer"] = str(folder / usual["steer"])
        return form_of(content), Ask(**usual)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / CONDITION_FILE}: {error}") from error


def read_condition_file(path: str) -> Conditions | None:
    """Return the directions or ratings a folder was trained under; None for any other, and for a hub id.

    Raises ModelError for a file that cannot be understood.
    """
    form, _ = read_asking(path)
    return form if isinstance(form, Conditions) else None


def needed_conditions(path: str) -> Conditions:
    """Return what a folder knows of its prompts. Raises ModelError for one that was not trained under conditions."""
    found = read_condition_file(path)
    if found is None:
        raise ModelError(
            f"{path}: no {CONDITION_FILE}, so this model was not trained under directions: name a folder that "
            "DPARSFModule exported"
        )
    return found
