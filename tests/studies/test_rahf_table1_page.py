"""The page of RAHF's table 1: every run with its intervals, what its two stages took, and what has no states."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.studies.things import program
from tests.test_configs import ROOT

HERE = ROOT / "experiments" / "rahf_table1"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return program("rahf_table1", "page")


def cell(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "values": {"0": mean}, "seeds": 1}


def run(reward: float, **more: float) -> dict[str, Any]:
    return {"T = 1": cell(reward), "greedy": cell(reward + 1), "KL": cell(0.5), **{k: cell(v) for k, v in more.items()}}


FIGURES = {
    "rewards": {
        "base": run(0.4),
        "good and bad": run(0.9),
        "Dual, a 1": run(1.1, **{"less HIR": 0.2}),
        "PPO": run(1.5),
    },
    "states": {"Dual, a 1": {"shift": cell(0.15), "FVE": cell(0.8)}},
    "cost": {
        "good and bad": {"CPU seconds": cell(70.0)},
        "Dual, a 1": {"CPU seconds": cell(30.0)},
        "PPO": {"CPU seconds": {"mean": None}},
    },
}


def test_every_run_has_its_figures(page: ModuleType, tmp_path: Path) -> None:
    shown = page.text(FIGURES)
    assert "| PPO | - | - | 1.50 [1.40, 1.60] | - | - | - | 2.50 [2.40, 2.60] |" in shown
    assert "| Dual, a 1 | - | - | 0.20 [0.10, 0.30] |" in shown
    assert "| Dual, a 1 | 0.15 | - | 0.80 |" in shown
    page.picture(FIGURES, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_a_second_stage_costs_what_both_took(page: ModuleType) -> None:
    cost = FIGURES["cost"]
    assert [page.spent(cost, title) for title in ("good and bad", "Dual, a 1", "PPO", "base")] == [
        "70",
        "100",
        "-",
        "-",
    ]


def test_the_tables_are_those_of_the_figures(page: ModuleType) -> None:
    shown = (HERE / "README.md").read_text().partition(page.MARKS[0])[2].partition(page.MARKS[1])[0]
    assert shown.strip() == page.text(json.loads((HERE / "figures.json").read_text()))
