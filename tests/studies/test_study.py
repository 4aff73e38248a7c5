"""What is done, what is not done again, and what a failure holds up: real processes of small programs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

from align.cli.included_configs import configs_of, content_of
from align.cli.main import main
from align.evaluation.run_log import FINISHED
from align.studies.records import write_record
from align.studies.study_file import read_study
from align.studies.tasks import tasks_of
from tests.cli.conftest import told
from tests.studies.things import done, step, write_study

__all__ = ["told"]
CHAIN = {"first": step("${seed}"), "second": step(10, "first"), "other": step(5)}
TABLE = {"table": {"rows": {"One": "first", "Two": "second"}, "columns": {"value": "value"}}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> int:
    return main(["study", "study.yaml", *words])


def test_steps_follow_what_they_need_for_every_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, {"second": CHAIN["second"], "first": CHAIN["first"], "results": TABLE}, seeds=[1, 4, 6])
    assert run("--dry_run") == 0
    assert done(tmp_path) == []
    assert not Path("out").exists()
    assert "second-4: to be done" in capsys.readouterr().out
    assert run() == 0
    assert sorted(done(tmp_path)) == ["first-1", "first-4", "first-6", "second-1", "second-4", "second-6"]
    rows = json.loads(Path("out/results/table.json").read_text())["rows"]
    assert rows["Two"]["value"]["values"] == {"1": 11.0, "4": 14.0, "6": 16.0}
    found = stats.bootstrap(
        ([1.0, 4.0, 6.0],), lambda x, axis=-1: x.mean(axis), method="percentile", n_resamples=20_000
    )
    one = rows["One"]["value"]
    assert one["mean"] == pytest.approx(11 / 3)
    assert (one["low"], one["high"]) == pytest.approx(found.confidence_interval, abs=0.35)
    assert "| One | 3.67 [1.00, 6.00] (1.00 / 4.00 / 6.00) |" in Path("out/results/table.md").read_text()
    assert run() == 0
    assert done(tmp_path) == []
    assert run("--dry_run") == 0
    assert "7 steps, 7 finished" in capsys.readouterr().out


def test_what_has_changed_is_done_again_with_what_needs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path, CHAIN, seeds=[0])
    assert run() == 0
    done(tmp_path)
    write_study(tmp_path, {**CHAIN, "first": step("${seed}") + " "}, seeds=[0])  # the same words
    assert run() == 0
    assert done(tmp_path) == []
    content = yaml.safe_load(path.read_text())
    content["steps"]["first"] = content["steps"]["first"].replace("${seed}", "7")
    path.write_text(yaml.safe_dump(content))
    capsys.readouterr()
    assert run("--dry_run") == 0
    assert "first: to be done" in capsys.readouterr().out  # it has no seed any more
    assert run() == 0
    assert done(tmp_path) == ["first", "second"]
    (tmp_path / "program.py").write_text((tmp_path / "program.py").read_text() + "\n# new\n")
    capsys.readouterr()
    assert run() == 0
    shown = capsys.readouterr().out
    assert "other: again: program.py has changed; the former outcome is kept in out/other.before-1" in shown
    assert sorted(done(tmp_path)) == ["first", "other", "second"]
    assert json.loads(Path("out/other.before-1/results.json").read_text())["value"] == 5


def test_changed_values_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, {"first": step("${size}"), "second": step(1, "first")}, values={"size": 2})
    assert run() == 0
    assert run("--values.size", "3") == 0
    shown = capsys.readouterr().out
    assert "first: again: '<here> 2' is '<here> 3' now" in shown
    assert "second: again: first is another" in shown
    assert json.loads(Path("out/second/results.json").read_text())["value"] == 4


def test_a_failure_holds_up_only_what_needs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = {"bad": step("fail"), "after": step(1, "bad"), "last": step(1, "after"), "good": step(1)}
    write_study(tmp_path, steps)
    assert run("--workers", "2") == 3
    shown = capsys.readouterr().out
    assert "bad: FAILED, exit code 1, out/study/bad.log: it went wrong" in shown
    assert "after: not done, it needs bad" in shown
    assert "last: not done, it needs after" in shown
    assert "out: 1 finished, 1 failed, 2 not done" in shown
    assert sorted(done(tmp_path)) == ["bad", "good"]
    write_study(tmp_path, {**steps, "bad": step(2)})
    assert run() == 0
    assert done(tmp_path) == ["bad", "after", "last"]


def test_a_step_that_failed_is_done_again(tmp_path: Path) -> None:
    write_study(tmp_path, {"bad": step("fail")})
    assert run() == run() == 3
    assert done(tmp_path) == ["bad", "bad"]


def test_a_finished_step_whose_folder_is_gone_is_done_again(tmp_path: Path) -> None:
    write_study(tmp_path, {"one": step(1)})
    assert run() == 0
    (tmp_path / "out/one/results.json").unlink()
    (tmp_path / "out/one").rmdir()
    assert run() == 0
    assert done(tmp_path) == ["one", "one"]


def test_a_step_that_writes_nothing_is_done_once(tmp_path: Path) -> None:
    write_study(tmp_path, {"one": "python -c \"open('log.txt', 'a').write('x\\n')\""})
    assert run() == run() == 0
    assert done(tmp_path) == ["x"]


def test_a_run_that_ended_before_it_was_noted_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`align fit` refuses the folder of a finished run, so that the step would have failed for ever."""
    write_study(tmp_path, {"one": "fit -c dpo -c synthetic"})
    (task,) = tasks_of(read_study(content_of("study.yaml"), Path("study.yaml")), configs_of).values()
    write_record(Path("out"), task, "begun")
    task.folder.mkdir()
    (task.folder / FINISHED).write_text("{}")
    assert run() == 0
    assert "one: finished already in out/one" in capsys.readouterr().out


def test_values_under_which_a_step_is_done(tmp_path: Path) -> None:
    steps = {
        "first": {"command": step("${n}"), "each": [{"n": 2, "m": 1}, {"n": 3, "m": 1}]},
        "second": step("${m}", "first"),
        "table": {"table": {"rows": {"Sum": "second"}, "columns": {"value": "value"}, "digits": 0}},
        "figure": "python -c \"import pathlib; pathlib.Path('${here}').write_text('${table}')\"",  # once
    }
    write_study(tmp_path, steps, scales={"ci": {"each": {"first": [{"n": 9, "m": 0}]}}})
    assert run() == 0
    assert Path("out/table/table.md").read_text().splitlines()[2:] == ["| Sum, n=2 | 3 |", "| Sum, n=3 | 4 |"]
    assert Path("out/figure").read_text() == "out/table"
    assert run("--scale", "ci") == 0
    assert json.loads(Path("out-ci/second-9/results.json").read_text())["value"] == 9


def test_a_study_that_is_cut_off_has_done_alike_what_it_has_done(tmp_path: Path) -> None:
    """All steps under the first seed and value come before any under the next."""
    steps = {
        "first": {"command": step("${seed}${n}"), "each": [{"n": 2}, {"n": 3}]},
        "second": step(1, "first"),
        "once": step(1),
    }
    write_study(tmp_path, steps, seeds=[5, 0])
    assert run() == 0
    alike = [[f"first-{n}-{seed}", f"second-{n}-{seed}"] for seed in (5, 0) for n in (2, 3)]
    assert done(tmp_path) == ["once", *itertools.chain(*alike)]


def test_settings_that_a_step_writes(tmp_path: Path) -> None:
    """They are not there when the study is planned; a fit reads them, and is done again when they are others."""
    steps = {"rate": step(1), "fit": "fit -c dpo -c synthetic -c ${rate}/rate.yaml -c ${study}/mine.yaml"}
    write_study(tmp_path, steps)
    (tmp_path / "mine.yaml").write_text("trainer: {max_epochs: 1}\n")

    def planned() -> dict[str, Any]:
        return tasks_of(read_study(content_of("study.yaml"), Path("study.yaml")), configs_of)["fit"].reads

    before = planned()
    assert [Path(name).name for name in before["files"]] == ["dpo.yaml", "synthetic.yaml", "mine.yaml"]
    write_study(tmp_path, {**steps, "rate": step(2)})
    assert planned()["needs"] != before["needs"]


def test_only_some_steps_with_what_they_need(tmp_path: Path, told: Callable[..., str]) -> None:
    write_study(tmp_path, CHAIN, seeds=[0])
    assert run("--only", "[second]") == 0
    assert done(tmp_path) == ["first-0", "second-0"]
    assert "only: 'third' is no step (one of first, second, other)" in told("study", "study.yaml", "--only", "third")


def test_a_study_that_is_killed_goes_on(tmp_path: Path) -> None:
    """`kill -9` between two steps: what has ended is not done again."""
    slow = "python -c 'import time; time.sleep(60)'"
    write_study(tmp_path, {"one": step(1), "two": slow})
    process = subprocess.Popen(
        [sys.executable, "-m", "align", "study", "study.yaml"], cwd=tmp_path, start_new_session=True
    )
    end = time.monotonic() + 120
    while not (tmp_path / "out/study/two.json").exists() and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert done(tmp_path) == ["one"]
    write_study(tmp_path, {"one": step(1), "two": step(2, "one")})
    assert run() == 0
    assert done(tmp_path) == ["two"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("steps", "more", "line"),
    [
        ({"a": step(1, "b"), "b": step(1, "a")}, {}, "steps: a, b need each other in a circle"),
        ({"a": step(1, "firsd"), "first": step(1)}, {}, "steps.a: 'firsd' is no step and no value of the study, did you mean 'first'?"),
        ({"a": step("${seed}")}, {}, "steps.a: ${seed} needs `seeds`"),
        ({"a": {"commnd": "x"}}, {}, "steps.a: unknown 'commnd', did you mean 'command'?"),
        ({"a": {"command": "x", "table": {}}}, {}, "steps.a.table.rows: expected `name: value`"),
        ({"a": ""}, {}, "steps.a.command: is empty"),
        ({"a": step(1)}, {"values": {"a": 1}}, "steps.a: 'a' names something else too"),
        ({"a": step(1)}, {"seeds": [0, 0]}, "seeds: expected different whole numbers"),
        ({"a": "python 'x"}, {}, "steps.a.command: No closing quotation"),
        ({"a": "python $ x"}, {}, "steps.a.command: "),
        ({"a": {"command": "python x", "from": "b"}}, {}, "steps.a.from: only a fit starts from a model"),
        ({"a": "fit --trainer.default_root_dir x"}, {}, "--trainer.default_root_dir belongs to the study"),
        ({"a-b": step(1)}, {}, "steps.a-b: a step is named by letters"),
        ({"a": step(1)}, {"scales": {"ci": {"sizes": 1}}}, "scales.ci: unknown 'sizes'"),
        ({"a": step(1)}, {"scales": {"ci": {"values": {"n": 1}}}}, "values.n: the study has no values"),
        ({"a": {"command": step(1), "each": [{"n": 1}, {"n": 1}]}}, {}, "steps.a.each: expected the same names"),
        ({"a": "fit -c nothing.yaml"}, {}, "config nothing.yaml: cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_says_nothing_that_can_be_done(
    steps: dict, more: dict, line: str, tmp_path: Path, told: Callable[..., str]
) -> None:
    write_study(tmp_path, steps, **more)
    assert line in told("study", "study.yaml")
    assert done(tmp_path) == []


@pytest.mark.bad_input
def test_settings_that_cannot_be(tmp_path: Path, told: Callable[..., str]) -> None:
    write_study(tmp_path, CHAIN, seeds=[0], scales={"ci": {"seeds": [1]}})
    assert "scale 'cii': the study has ci, did you mean 'ci'?" in told("study", "study.yaml", "--scale", "cii")
    assert "values.n: the study has no values" in told("study", "study.yaml", "--values.n", "1")
    assert "workers must be at least 1, got 0" in told("study", "study.yaml", "--workers", "0")
    Path("out/first-0").mkdir(parents=True)
    assert "out/first-0 is there and was not made by this study" in told("study", "study.yaml")
    Path("out/first-0").rmdir()
    Path("out/study").mkdir(exist_ok=True)
    Path("out/study/other.json").write_text("{")
    assert "out/study/other.json: is damaged" in told("study", "study.yaml", code=3)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"columns": {"x": "valeu"}}, "no row has 'valeu', the column 'x'"),
        ({"rows": {"One": "one:models"}}, "out/one/results.json has no 'models'"),
        ({"file": "else.json"}, "out/one/else.json: cannot be read"),
    ],
)
def test_figures_that_are_not_there(table: dict, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"rows": {"One": "one"}, "columns": {"value": "value"}, **table}
    write_study(tmp_path, {"one": step(1), "all": {"table": given}})
    assert run() == 3
    assert f"all: FAILED, table: {line}" in capsys.readouterr().out
