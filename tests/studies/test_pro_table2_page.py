"""The page of PRO's table 2: every arm with its length, what is done at one length alone, and a gain that no seed has."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.studies.things import program
from tests.test_configs import ROOT

HERE = ROOT / "experiments" / "pro_table2"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return program("pro_table2", "page")


def cell(mean: float | None) -> dict[str, Any]:
    ends = {"low": None, "high": None} if mean is None else {"low": mean - 0.1, "high": mean + 0.1}
    return {"mean": mean, **ends, "values": {} if mean is None else {"0": mean}, "seeds": 1}


def measured(reward: float, gain: float | None) -> dict[str, Any]:
    return {"T = 1": cell(reward), "gain at equal KL": cell(gain), "KL": cell(0.5), "words": cell(17.0)}


FIGURES = {
    "results": {
        "SFT on chosen": measured(1.0, 0.1),
        "PRO, n=2": measured(1.2, 0.2),
        "PRO, n=4": measured(1.5, 0.3),
        "PRO without SFT, n=2": measured(0.6, None),
        "PRO without SFT, n=4": measured(2.0, -0.2),
    },
    "against": {"PRO, n=2": {"T = 1": cell(1.2)}, "RRHF, n=2": {"T = 1": cell(1.0), "less PRO, T = 1": cell(-0.2)}},
    "rankings": {"PRO, n=2": {"best of the list": cell(0.7), "Kendall tau": cell(0.4)}},
    "cost": {"PRO, n=2": {"CPU seconds": cell(41.0)}},
}


def test_every_arm_has_its_figures(page: ModuleType, tmp_path: Path) -> None:
    shown = page.text(FIGURES)
    assert "| PRO, n=4 | 0.30 [0.20, 0.40] | - | 1.50 [1.40, 1.60] |" in shown
    assert "| PRO without SFT, n=2 | - | - | 0.60 [0.50, 0.70] |" in shown
    assert "| 17.00 | 41 |" in shown
    assert "| RRHF, n=2 | -0.20 [-0.30, -0.10] | - |" in shown
    assert "| PRO, n=2 | - | 0.70 [0.60, 0.80] | 0.40 [0.30, 0.50] |" in shown
    page.picture(FIGURES, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_lengths_of_one_arm_are_one_curve(page: ModuleType) -> None:
    found = page.curves(FIGURES["results"])
    assert {name: list(by_length) for name, by_length in found.items()} == {
        "SFT on chosen": [0],
        "PRO": [2, 4],
        "PRO without SFT": [2, 4],
    }


def test_the_tables_are_those_of_the_figures(page: ModuleType) -> None:
    shown = (HERE / "README.md").read_text().partition(page.MARKS[0])[2].partition(page.MARKS[1])[0]
    assert shown.strip() == page.text(json.loads((HERE / "figures.json").read_text()))
