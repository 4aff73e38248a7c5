"""Say what the fronts of one seed are worth: shares of the way from the untouched base to the exact optimum.

    python measure.py OUT PROMPTS FOLDER [=FOLDER ...] [LABEL=FOLDER ...] [pairs:NAME=PAIRS ...] [rounds:NAME=RUN ...]

reads what `align front compare` wrote on PROMPTS into the first FOLDER (T = .7) and into others, whose shares are named
by their labels, and how many responses each arm had graded: two a pair, or what the store of a run's rounds says, under
`NAME ROUND`. Shares are all from the base in the first FOLDER. Writes OUT/results.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.evaluation.fronts import GOLD_SCALES, Front, read_front
from align.evaluation.hypervolume import hypervolume
from align.records import Arc
from align.records.reward_directions import unit
from align.rounds.round_store import RoundStore
from align.strict_json import json_text
from align.world.gold_rewards import request_of
from align.world.optimum import pareto_front
from align.world.universe import Prompt, World

ANGLES = Arc().even(10)
NAMES = ["helpfulness", "-verbosity"]
REFERENCE = (100 * (-1 + 6) / 12, -125.0)
"""Of hypervolumes: helpfulness -1 and 50 words, in points."""
BASE, SOUP = "base", "soup"
Fronts = dict[str, Front]


def fronts_of(folder: Path) -> Fronts:
    """Return the fronts by name, in their order; those named `soup ...` are one, with a point each."""
    paths = sorted((folder / "fronts").glob("*.json"), key=lambda path: int(path.name.partition("-")[0]))
    found = [read_front(path) for path in paths]
    soups = [front for front in found if front.name.startswith(SOUP)]
    alone = {front.name: front for front in found if front not in soups}
    if not soups:
        return alone
    points = tuple(point for soup in soups for point in soup.points)
    merged = Front("soups", soups[0].attributes, points, np.concatenate([soup.rewards for soup in soups]))
    return {**alone, "soups": merged}


def optimum(prompts: Sequence[Prompt]) -> NDArray[np.float64]:
    """Return the corners of the true front in points: helpfulness and verbosity."""
    scales = [GOLD_SCALES["helpfulness"], GOLD_SCALES["verbosity"]]
    corners = [
        [100 * (v - low) / (high - low) for v, (low, high) in zip(corner, scales, strict=True)]
        for corner in pareto_front(World(), prompts)
    ]
    return np.array(corners)


def shares(front: Front, base: Front, best: NDArray[np.float64]) -> list[float]:
    """Return, prompt by prompt, (v . r - base) / (optimum - base), the mean over ten directions.

    A model that is asked for directions answers each with its own point; any other takes its best point in each.
    """
    means, own = front.rewards.mean(1), [point.angle for point in front.points]
    found = []
    for angle in ANGLES:
        v = np.array(unit(angle))
        place = nearest(own, angle) if own[0] is not None else int(np.argmax(means @ v))
        start, top = float(base.rewards.mean((0, 1)) @ v), float((best @ v).max())
        found.append((front.rewards[place] @ v - start) / (top - start))
    return [float(value) for value in np.mean(found, axis=0)]


def nearest(angles: Sequence[Any], angle: float) -> int:
    """Return the place of the angle that was asked for and lies nearest."""
    return min(range(len(angles)), key=lambda place: abs(angles[place] - angle))


def described(front: Front) -> dict[str, float]:
    """Return hypervolume, both rewards at the first and the last point, and how often verbosity falls on the way."""
    means = front.rewards.mean(1)
    found = {"hypervolume": hypervolume(front.columns(NAMES).mean(1), REFERENCE)}
    for name, place in (("first", 0), ("last", -1)):
        found |= {f"helpfulness_{name}": float(means[place, 0]), f"words_{name}": 0.4 * float(means[place, 1])}
    if len(means) > 1 and front.points[0].angle is not None:
        found["falls"] = float(np.mean(np.diff(means[:, 1]) <= 0))
    return found


def graded(run: Path) -> list[int]:
    """Return how many responses were graded by the end of each round."""
    with closing(RoundStore(run / "rounds" / "rounds.sqlite")) as store:
        return list(accumulate(int(row.manifest["counts"]["samples"]) for row in store.rounds()))


def main(out: Path, prompts: Path, given: Sequence[str]) -> None:
    """Write all there is."""
    asked = [example.messages for example in PreferenceFile(str(prompts)).read("train", Report())]
    best, base = optimum(asked), fronts_of(Path(given[0]))[BASE]
    models: dict[str, dict[str, Any]] = {}
    for label, _, what in (one.rpartition("=") for one in given):
        kind, _, arm = label.partition(":")
        if kind == "pairs":
            models[arm]["graded"] = 2 * int(what)
        elif kind == "rounds":
            for number, count in enumerate(graded(Path(what))):
                models[f"{arm} {number}"]["graded"] = count
        else:
            for name, front in fronts_of(Path(what)).items():
                add(models, name, label, front, shares(front, base, best))
    entities = [request_of(World(), prompt).entity for prompt in asked]
    out.mkdir(parents=True, exist_ok=True)
    text = json_text({"entities": entities, "models": models}, indent=1)
    (out / "results.json").write_text(text, encoding="utf-8")
    print(json.dumps({name: round(row["share"], 3) for name, row in models.items()}))


def add(models: dict[str, dict[str, Any]], name: str, label: str, front: Front, own: list[float]) -> None:
    """Add the shares of a front under their label, and what else is told of it where there is no label."""
    row = models.setdefault(name, {"by_prompt": {}})
    key = f"share_{label}" if label else "share"
    row[key], row["by_prompt"][key] = float(np.mean(own)), own
    if not label:
        row |= described(front)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
