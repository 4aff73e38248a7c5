"""Figures of several seeds: what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.errors import DataError
from align.studies.study_file import StudyStep, TableSettings
from align.studies.study_table import Figure, write_table
from align.studies.tasks import Task


def tasks(folder: Path, *contents: object) -> list[Task]:
    found = []
    for seed, content in enumerate(contents):
        place = folder / f"a-{seed}"
        place.mkdir()
        (place / "results.json").write_text(json.dumps(content))
        found.append(Task(f"a-{seed}", StudyStep("a", "x"), (), place, values={"seed": seed}))
    return found


def table(columns: dict[str, str], row: str = "a") -> TableSettings:
    return TableSettings({"A": row}, columns)


def test_a_null_is_left_out_and_counted(tmp_path: Path) -> None:
    given = tasks(tmp_path, {"x": 1.0, "y": None}, {"x": None, "y": None}, {"x": 3.0, "y": None})
    shown = write_table(table({"x": "x", "y": "y"}), given, tmp_path / "t").splitlines()[2]
    assert shown == "| A | 2.00 [1.00, 3.00] (1.00 / 3.00) (2 of 3 seeds) | - (0 of 3 seeds) |"
    assert json.loads((tmp_path / "t/table.json").read_text())["rows"]["A"]["y"]["mean"] is None


def test_a_name_may_hold_points_and_lists_have_places(tmp_path: Path) -> None:
    given = tasks(tmp_path, {"models": [{"dpo v1.5": {"r.x": 2}}]})
    assert "| A | 2.00 |" in write_table(table({"x": "r.x"}, "a:models.0.dpo v1.5"), given, tmp_path / "t")


def test_what_some_seeds_lack_is_no_mean(tmp_path: Path) -> None:
    given = tasks(tmp_path, {"x": 1.0}, {"z": 1.0})
    with pytest.raises(DataError, match="a has no 'x' for seed 1, and for others it has"):
        write_table(table({"x": "x"}), given, tmp_path / "t")


def test_a_run_has_its_metrics_alone(tmp_path: Path) -> None:
    run = Task("b", StudyStep("b", "fit -c x"), (), tmp_path / "b")
    run.folder.mkdir()
    lines = [{"step": 1, "val/accuracy": 0.5}, {"step": 2, "val/accuracy": 0.75}]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = TableSettings({"A": "a", "B": "b"}, {"x": "x", "accuracy": "metrics:val/accuracy"})
    shown = write_table(given, [*tasks(tmp_path, {"x": 1.0}), run], tmp_path / "t").splitlines()
    assert shown[2:] == ["| A | 1.00 |  |", "| B |  | 0.75 |"]


def test_texts_are_no_figures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'x' in .* is no number"):
        write_table(table({"x": "x"}), tasks(tmp_path, {"x": "1"}), tmp_path / "t")


def test_one_seed_has_no_interval() -> None:
    assert Figure({"0": 1.25}, 1).text(1) == "1.2"
    assert Figure({}, 0).as_dict()["mean"] is None
