"""The card of the study of overoptimisation says what was measured, and the picture can be drawn from it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.studies.things import program
from tests.test_configs import ROOT

HERE = ROOT / "experiments" / "overoptimisation"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return program("overoptimisation", "page")


@pytest.fixture(scope="module")
def figures() -> Any:
    return json.loads((HERE / "figures.json").read_text())


def test_the_tables_are_those_of_the_figures(page: ModuleType, figures: Any, tmp_path: Path) -> None:
    shown = (HERE / "README.md").read_text()
    assert shown.partition(page.MARKS[0])[2].partition(page.MARKS[1])[0].strip() == page.text(figures)
    page.picture(figures, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_the_divergence_of_best_of_n_is_the_closed_form(page: ModuleType, figures: Any) -> None:
    for size in page.sizes(figures):
        told = [row["KL at most"]["mean"] for row in page.best_of(figures, size, "proxy")]
        assert told == pytest.approx([math.log(n) - (n - 1) / n for n in (1, 2, 4, 8, 16, 32, 64)])
        gold = [row["gold"]["mean"] for row in page.best_of(figures, size, "gold")]
        assert gold == sorted(gold)  # the gold reward is never fooled by itself


def test_the_peak_is_that_of_the_curve(page: ModuleType) -> None:
    roots = [0.0, 0.4, 0.8, 1.2, 1.6]
    rows = [{"KL at most": {"mean": d * d}, "gold": {"mean": 0.3 + d * (2 - 0.5 * d)}} for d in roots]
    assert page.peak(rows) == pytest.approx((2, 0.5))
