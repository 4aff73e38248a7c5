"""DPA's figure 4: what a front is worth between the base and the exact optimum, graded responses, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from align.evaluation.fronts import Front, Point, write_front
from align.records import Arc
from align.rounds.round_store import RoundStore
from align.world.prompts import held_out_prompts
from align.world.universe import World
from tests.studies.things import program

PROMPTS = held_out_prompts(World(), 4, 0)
ANGLES = Arc().even(10)


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    return program("dpa_figure4", "measure")


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return program("dpa_figure4", "page")


def front(name: str, means: list[list[float]], angles: list[float] | None = None) -> Front:
    """Return a front on whose prompts a model is worth the same."""
    labels = [Point(str(n), angle=None if angles is None else angles[n]) for n in range(len(means))]
    return Front(name, ("helpfulness", "verbosity"), tuple(labels), np.repeat(np.array(means)[:, None], 4, axis=1))


def test_the_base_is_at_none_and_the_optimum_at_all_of_the_way(measure: ModuleType) -> None:
    best = measure.optimum(PROMPTS)
    base = front("base", [[60.0, 45.0]])
    directions = np.array([[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in ANGLES])
    corners = [best[np.argmax(best @ v)].tolist() for v in directions]
    assert np.mean(measure.shares(base, base, best)) == pytest.approx(0)
    assert np.mean(measure.shares(front("asked", corners, ANGLES), base, best)) == pytest.approx(1)
    assert np.mean(measure.shares(front("points", corners), base, best)) == pytest.approx(1)
    backwards = front("deaf", corners[::-1], ANGLES)  # answers -45 degrees where 0 is asked for
    assert np.mean(measure.shares(backwards, base, best)) < 1


def test_soups_are_one_front_and_graded_responses_are_counted(measure: ModuleType, tmp_path: Path) -> None:
    for place, name in enumerate(("base", "soup 0", "soup 45")):
        write_front(front(name, [[60.0 + place, 45.0]]), tmp_path / "fronts" / f"{place}-{name}.json")
    prompts = tmp_path / "prompts.jsonl"
    program("dpa_figure4", "prompts").main(prompts, 0, 4)
    store = RoundStore(tmp_path / "run" / "rounds" / "rounds.sqlite")
    for number, samples in enumerate((96, 80)):
        manifest = json.dumps({"counts": {"samples": samples}})
        store.connection.execute(
            "INSERT INTO round (number, policy, settings, begun, manifest) VALUES (?, '', '', '', ?)",
            (number, manifest),
        )
    store.close()
    assert measure.graded(tmp_path / "run") == [96, 176]
    measure.main(tmp_path, prompts, [str(tmp_path), f"warm={tmp_path}", "pairs:soups=20"])
    models = json.loads((tmp_path / "results.json").read_text())["models"]
    assert set(models) == {"base", "soups"}
    assert models["soups"]["graded"] == 40
    assert models["soups"]["share"] == models["soups"]["share_warm"] > models["base"]["share"]


def cell(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "values": {"0": mean}, "seeds": 1}


def test_every_arm_has_its_budget(page: ModuleType, tmp_path: Path) -> None:
    row = {"share": cell(0.5), "graded": cell(8000.0), "hypervolume": cell(4000.0), "words, first": cell(20.0)}
    names = ("untouched, T = .3", "SFT", "DPO", "soups", "SteerLM", "DPA, t = 4", "paper's DPA, t = 4")
    costs = {name: {"CPU seconds": cell(30.0)} for name in ("SFT", "DPO", "helpful", "brief", "SteerLM", "DPA")}
    searched = {"dpa": {"5e-5": {"share": cell(0.1)}, "2e-3": {"share": cell(0.4)}}}
    points = {"base": [[None, 60.0, 18.0]], "DPA 4": [[0.0, 90.0, 20.0], [-45.0, 70.0, 9.0]]}
    figures = {
        "results": dict.fromkeys(names, row),
        "cost": {**costs, "paper's DPA": {"CPU seconds": cell(25.0)}},
        "searched": searched,
        "fronts": {"0": points},
        "optimum": page.best(4),
    }
    shown = page.text(figures)
    assert "| soups | 8000 | 60 | 0.50 [0.40, 0.60] |" in shown
    assert "| dpa | 5e-5: 0.10 | **2e-3: 0.40** |" in shown
    page.picture(figures, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
