"""A run with rounds that is tampered with is refused; each part of the mechanism is needed; two processes make one run."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from align.cli.main import main
from tests.resume.runs import KILLED, Run, same
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import killing, stored
from tests.test_configs import ROOT

__all__ = ["world_model"]
NINE = int(signal.SIGKILL)


@pytest.fixture
def run(tmp_path: Path, world_model: Path) -> Run:
    """A run that was killed inside its second round."""
    made = Run(tmp_path / "run", command(world_model))
    assert made(("batch_end", 4, NINE)) == KILLED, made.log
    return made


def last_line(run: Run) -> str:
    return run.log[run.log.rindex("align fit:") :].splitlines()[0]


def change_file(rounds: Path) -> None:
    path = rounds / "round-0001.jsonl"
    path.write_text(path.read_text().replace("policy@1", "policy@2", 1))


def remove_file(rounds: Path) -> None:
    (rounds / "round-0001.jsonl").unlink()


def remove_store(rounds: Path) -> None:
    shutil.rmtree(rounds)


@pytest.mark.parametrize(
    ("tamper", "code", "said"),
    [
        (change_file, 3, "round-0001.jsonl has SHA-256"),
        pytest.param(remove_file, 3, "round-0001.jsonl is missing", marks=pytest.mark.slow),
        (remove_store, 2, "is not sealed, the checkpoint has trained on"),
    ],
)
def test_what_was_trained_on_is_never_made_anew(tamper: Callable[[Path], None], code: int, said: str, run: Run) -> None:
    tamper(run.root / "rounds")
    assert run() == code, run.log
    assert said in last_line(run)


def test_another_scorer_is_refused_even_by_force(run: Run) -> None:
    """`--ckpt_path` goes on with other settings; a round that was begun does not."""
    assert run(prepare=killing(run.root / "j", "after add", 2)) == KILLED, run.log
    last = run.root / "checkpoints" / "last.ckpt"
    other = ["{weights: {helpfulness: 1.0}}" if "weights" in word else word for word in run.words]
    run.words = [*other, "--ckpt_path", str(last)]
    assert run() == 2, run.log
    assert "round 2" in last_line(run)
    assert "was begun with other settings or prompts" in last_line(run)


def drop_own_streams() -> None:
    """Every token from the global stream, as a naive sampler would draw it."""
    from align.sampling import decoding_rows

    decoding_rows.uniforms = lambda key, count: (1 - torch.rand(count)).numpy()  # type: ignore[assignment]


def test_sabotage_is_found(tmp_path: Path, world_model: Path) -> None:
    """Without a stream of its own for every sample, a round that is gone on with has other samples."""
    whole, cut = Run(tmp_path / "whole", command(world_model)), Run(tmp_path / "cut", command(world_model))
    assert whole(prepare=drop_own_streams) == 0, whole.log

    def both() -> None:
        drop_own_streams()
        killing(tmp_path / "journal", "after add", 1)()

    assert cut(prepare=both) == KILLED, cut.log
    cut(prepare=drop_own_streams)
    with pytest.raises((AssertionError, KeyError)):
        same(whole, cut)


@pytest.mark.slow
def test_two_processes_make_the_rounds_of_one(tmp_path: Path, world_model: Path) -> None:
    """They share the drawing; a round sampled from the same weights is the same to the byte."""
    common = [*command(world_model), "--trainer.max_epochs", "1"]
    runs = []
    for name, more in (("one", []), ("two", ["-c", str(ROOT / "configs" / "trainer" / "ddp_cpu.yaml")])):
        root = tmp_path / name
        words = [sys.executable, "-m", "align", *common, *more, "--trainer.default_root_dir", str(root)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        runs.append(root / "rounds")
    first, second = (folder / "round-0000.jsonl" for folder in runs)
    assert first.read_bytes() == second.read_bytes()


def test_align_rounds_lists_them(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(prepare=killing(run.root / "j", "after add", 2)) == KILLED, run.log
    assert main(["show", str(run.root)]) == 0
    told = capsys.readouterr().out
    assert "acceptance" in told
    assert "round 0, reward " in told
    there = sum(number == 2 for number, _, _ in stored(run))
    assert f"round 2 is not done: {there} samples are there" in told
    first = json.loads((run.root / "rounds" / "round-0000.jsonl").read_text().splitlines()[0])
    assert first["origins"] == ["policy@0", "policy@0"]
    assert main(["show", "nowhere"]) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"direction": "{weights: {nonsense: 1.0}}"}, "direction names 'nonsense', the scorer has helpfulness, verb"),
        ({"scorer": "RewardFolder", "scorer.path": "POLICY"}, "LlamaForCausalLM has no reward head"),
    ],
)
def test_a_scorer_that_cannot_serve_is_found_before_anything_is_sampled(
    settings: dict[str, str], said: str, world_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole round was drawn first."""
    given = {"direction": "{weights: {reward: 1.0}}", **settings}
    values = {name: str(world_model) if value == "POLICY" else value for name, value in given.items()}
    words = [word for name, value in values.items() for word in (f"--trainer.callbacks.{name}", value)]
    run = tmp_path / "run"
    assert main([*command(world_model, "--trainer.default_root_dir", str(run)), *words]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    store = run / "rounds" / "rounds.sqlite"
    if store.exists():
        with sqlite3.connect(store) as db:
            assert db.execute("SELECT count(*) FROM sample").fetchone() == (0,)
