"""The page of results says what the study of all objectives measured."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from tests.studies.things import program
from tests.test_configs import ROOT

HERE = ROOT / "experiments" / "objectives"


@pytest.fixture
def page() -> ModuleType:
    return program("objectives", "page")


def test_the_tables_are_those_of_the_figures(page: ModuleType) -> None:
    text = page.table(json.loads((HERE / "figures.json").read_text()))
    shown = (ROOT / "docs" / "results.md").read_text()
    assert shown.partition(page.MARKS[0])[2].partition(page.MARKS[1])[0].strip() == text


def test_an_arm_that_a_seed_has_no_gain_for_comes_last(page: ModuleType) -> None:
    whole = {"gain at equal KL": {"mean": -2.0, "values": {"0": -2.0}, "seeds": 1}}
    parts = {"gain at equal KL": {"mean": 3.0, "values": {"0": 3.0}, "seeds": 2}}
    assert page.worth(whole) > page.worth(parts) == page.worth({})
