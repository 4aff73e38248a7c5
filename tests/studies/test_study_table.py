"""Figures of several seeds: what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.errors import ConfigError, DataError
from align.studies.figures import Figure
from align.studies.study_file import StudyStep
from align.studies.study_table import write_table
from align.studies.table_settings import RowDifference, TableSettings, table_of
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


def on_prompts(*values: float, entities: str = "aabb") -> dict[str, object]:
    """Return a file of results with a figure on every prompt, and their mean."""
    return {"entities": list(entities), "m": {"x": sum(values) / len(values), "by_prompt": {"x": list(values)}}}


def test_values_on_prompts_make_the_interval_one_over_entities_too(tmp_path: Path) -> None:
    """One seed has an interval then; prompts of an entity that agree do not narrow it."""
    given = tasks(tmp_path, on_prompts(0.0, 0.0, 2.0, 2.0))
    lines = write_table(table({"x": "x"}, "a:m"), given, tmp_path / "t").splitlines()
    assert lines[2:] == ["| A | 1.00 [0.00, 2.00] |", "", "95 % intervals of x: over seeds, entities and prompts."]
    assert json.loads((tmp_path / "t/table.json").read_text())["rows"]["A"]["x"]["over"] == "seeds, entities, prompts"


def test_seeds_of_other_prompts_are_no_table(tmp_path: Path) -> None:
    given = tasks(tmp_path, on_prompts(0.0, 0.0, 2.0, 2.0), on_prompts(1.0, 1.0, entities="ab"))
    with pytest.raises(DataError, match=r"measured on \[2, 4\] prompts, expected the same for all"):
        write_table(table({"x": "x"}, "a:m"), given, tmp_path / "t")


def test_differences_are_of_the_same_seed_and_prompt(tmp_path: Path) -> None:
    """What seeds and prompts share is gone: every pair differs by 1, so that the interval has no width."""
    first, second = (
        [on_prompts(*(shift + seed + value for value in (0.0, 3.0, 5.0, 9.0))) for seed in (0, 7)] for shift in (1, 0)
    )
    both = [{**a, "n": b["m"]} for a, b in zip(first, second, strict=True)]
    settings = TableSettings(
        {"A": "a:m", "B": "a:n"}, {"x": "x"}, differences={"over B": RowDifference(column="x", row="B")}
    )
    lines = write_table(settings, tasks(tmp_path, *both), tmp_path / "t").splitlines()
    assert lines[0] == "| | x | over B |"
    assert lines[2].endswith("| 1.00 [1.00, 1.00] (1.00 / 1.00) |")
    assert lines[3].endswith(" |  |")  # none to itself


def test_differences_pair_rows_of_the_same_values(tmp_path: Path) -> None:
    given = []
    for step, values in (("a", (5.0, 7.0)), ("b", (1.0, 2.0))):
        for n, value in zip((2, 3), values, strict=True):
            place = tmp_path / f"{step}-{n}"
            place.mkdir()
            (place / "results.json").write_text(json.dumps({"x": value}))
            given.append(Task(f"{step}-{n}", StudyStep(step, "x"), (), place, values={"n": n}))
    rows, columns = {"A": "a", "A, n=2, more": "a", "B": "b"}, {"x": "x"}
    settings = TableSettings(rows, columns, differences={"over B": RowDifference("x", "B")})
    shown = write_table(settings, given, tmp_path / "t").splitlines()
    assert shown[2:4] == ["| A, n=2 | 5.00 | 4.00 |", "| A, n=3 | 7.00 | 5.00 |"]
    with pytest.raises(DataError, match="'B, n=2' has no 'C' beside it with the column 'x'"):
        write_table(TableSettings(rows, columns, differences={"d": RowDifference("x", "C")}), given[2:], tmp_path / "u")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"d": {"column": "y", "row": "A"}}, r"steps.t.table.differences.d.column: expected one of .* got 'y'"),
        ({"d": {"column": "x", "row": "Aa"}}, r"differences.d.row: .* got 'Aa'"),
        ({"d": {"column": "x"}}, r"differences.d.row: .* got None"),
        ({"x": {"column": "x", "row": "A"}}, r"differences.x: the table has a column of that title"),
        ({"d": {"column": "x", "rwo": "A"}}, r"differences.d: unknown 'rwo', did you mean 'row'"),
    ],
)
def test_differences_name_rows_and_columns(given: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        table_of({"rows": {"A": "a"}, "columns": {"x": "x"}, "differences": given}, "steps.t.table")
