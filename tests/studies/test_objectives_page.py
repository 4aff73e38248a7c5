"""The page of results says what the study of all objectives measured."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest

from tests.test_configs import ROOT

HERE = ROOT / "experiments" / "objectives"


@pytest.fixture
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("objectives_page", HERE / "page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_figures(page: ModuleType) -> None:
    text = page.table(json.loads((HERE / "figures.json").read_text()))
    shown = (ROOT / "docs" / "results.md").read_text()
    assert shown.partition(page.MARKS[0])[2].partition(page.MARKS[1])[0].strip() == text


def test_an_arm_that_a_seed_has_no_gain_for_comes_last(page: ModuleType) -> None:
    whole = {"gain at equal KL": {"mean": -2.0, "values": {"0": -2.0}, "seeds": 1}}
    parts = {"gain at equal KL": {"mean": 3.0, "values": {"0": 3.0}, "seeds": 2}}
    assert page.worth(whole) > page.worth(parts) == page.worth({})
