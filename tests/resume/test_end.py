"""The export is part of the run: a kill after the last step ends, after the same command, with the same model."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from align.cli.main import main
from tests.resume.runs import KILLED, Run, after_touches, every_touch
from tests.resume.test_exact import NINE, command
from tests.resume.test_stop import last_line


@pytest.fixture
def arguments(pairs_file: Path, model_folder: Path) -> list[str]:
    return command(pairs_file, model_folder, "--trainer.max_epochs", "1", method="sft")


PASSING = re.compile(rb".*(memory_gb|tokens_per_second|journal:|default_root_dir:|ckpt_path:|Self-check:).*")
"""Lines of the card that differ between any two runs."""


def content(folder: Path) -> dict[str, bytes]:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: PASSING.sub(b"", text) if name == "README.md" else text for name, text in files.items()}


def left_over(root: Path) -> list[Path]:
    return [p for p in root.iterdir() if p.name.endswith((".part", ".old"))]


def at_export(act: Callable[[], None]) -> None:
    """Let this process act when it begins to export."""
    from align.training.base_module import AlignModule

    export = AlignModule.export

    def acting(self: AlignModule, *arguments: object, **options: object) -> None:
        act()
        export(self, *arguments, **options)  # type: ignore[arg-type]

    AlignModule.export = acting  # type: ignore[method-assign,assignment]


def kill_in_export(touches: int) -> None:
    """Let this process die at one of the next touches of a file once it exports."""
    at_export(lambda: after_touches(touches, lambda: os.kill(os.getpid(), NINE)))


def count_in_export(tally: Path) -> None:
    """Let this process write one byte for every touch of a file from its export to its end."""
    file = os.open(tally, os.O_WRONLY | os.O_CREAT)
    at_export(lambda: every_touch(lambda: os.write(file, b".")))


def kills_at_the_end(tmp_path: Path, arguments: list[str], wanted: int) -> int:
    """Kill at random moments from the last checkpoint to the end of the process, each run until it is finished."""
    whole, cut, killed, runs = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments), 0, 0
    assert whole() == 0, whole.log
    assert cut(prepare=lambda: kill_in_export(1)) == KILLED
    shutil.copytree(cut.root, tmp_path / "last_step")
    assert cut(prepare=lambda: count_in_export(tmp_path / "tally")) == 0, cut.log
    moments = (tmp_path / "tally").stat().st_size
    draw = random.Random(0)
    while killed < wanted:
        shutil.rmtree(cut.root)
        shutil.copytree(tmp_path / "last_step", cut.root)
        while not (cut.root / "finished.json").exists():
            touches = draw.randint(1, moments * 5 // 4)  # one start in five comes to its end
            code = cut(prepare=lambda n=touches: kill_in_export(n))
            assert code in (0, KILLED), cut.log
            killed += code == KILLED
            assert not (cut.root / "model").exists() or content(cut.root / "model") == content(whole.root / "model")
        assert cut() == 2, cut.log
        assert "holds a finished run" in last_line(cut)
        assert content(cut.root / "model") == content(whole.root / "model")
        assert not left_over(cut.root)
        runs += 1
    print(f"\n{killed} kills between the last step and the end over {runs} runs: every model the same")
    return killed


def test_kills_at_the_end(tmp_path: Path, arguments: list[str]) -> None:
    assert kills_at_the_end(tmp_path, arguments, 5) >= 5


@pytest.mark.slow
def test_many_kills_at_the_end(tmp_path: Path, arguments: list[str]) -> None:
    assert kills_at_the_end(tmp_path, arguments, 100) >= 100


def test_a_run_of_max_steps_takes_no_step_more(tmp_path: Path, arguments: list[str]) -> None:
    """Its last checkpoint may lie in the middle of an epoch."""
    more = [*arguments, "--trainer.max_steps", "6"]  # last.ckpt is written every three steps
    whole, cut = Run(tmp_path / "whole", more), Run(tmp_path / "cut", more)
    assert whole() == 0, whole.log
    assert cut(("batch_end", 6, NINE)) == KILLED
    assert cut() == 0, cut.log
    assert json.loads((cut.root / "finished.json").read_text())["step"] == 6
    left, right = content(cut.root / "model"), content(whole.root / "model")
    assert left.keys() == right.keys()
    assert left["model.safetensors"] == right["model.safetensors"]  # cards differ: no epoch ended, none was validated


def broken(error: Exception) -> None:
    from align.models import model_export

    def fail(*_: object, **__: object) -> None:
        raise error

    model_export._save_tokenizer = fail


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        pytest.param(
            OSError(30, "Read-only file system"), "Read-only file system: check the path", marks=pytest.mark.slow
        ),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device"),
    ],
    ids=["full disk", "read-only", "full disk in safetensors"],
)
def test_an_export_that_fails_is_a_fault_and_can_be_finished(
    error: Exception, told: str, tmp_path: Path, arguments: list[str]
) -> None:
    run = Run(tmp_path / "run", arguments)
    assert run(prepare=lambda: broken(error)) == 3, run.log
    assert told in last_line(run)
    assert "give the same command again" in last_line(run)
    assert not (run.root / "model").exists()
    assert not (run.root / "finished.json").exists()
    assert not left_over(run.root)
    assert run() == 0, run.log
    assert (run.root / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("kind", ["a file", "a folder"])
def test_what_is_in_the_way_is_told_before_training(kind: str, tmp_path: Path, arguments: list[str]) -> None:
    run = Run(tmp_path / "run", arguments)
    run.root.mkdir()
    place = run.root / "model"
    if kind == "a folder":
        place.mkdir()
        place = place / "thesis.tex"
    place.write_text("precious")
    assert run() == 2
    assert "move it away" in last_line(run)
    assert place.read_text() == "precious"
    assert not run.journal.exists()


def test_export_replaces_a_model_and_nothing_else(tmp_path: Path, arguments: list[str]) -> None:
    run, out = Run(tmp_path / "run", arguments), tmp_path / "out"
    assert run() == 0, run.log
    words = ["export", "--run", str(run.root), "--out", str(out)]
    assert main(words) == 0
    first = content(out)
    (out / "model-00001-of-00002.safetensors").write_text("of an earlier export")
    assert main(words) == 0
    assert content(out) == first
    (out / "notes.tex").write_text("precious")
    assert main(words) == 3
    assert (out / "notes.tex").read_text() == "precious"
