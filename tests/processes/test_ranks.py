"""A rank that dies, fails or hangs ends the job within 30 s, with one line that says which and why, and a code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.strategies.launchers import subprocess_script

from align.cli import lost_ranks
from align.cli.main import main
from tests.processes.runs import NINE
from tests.processes.test_launch import PLAIN, TORCHRUN, Launched
from tests.processes.test_resume import words

TIMEOUT = ["--trainer.strategy.timeout", "0:01:00"]


def test_lightning_starts_its_observer_where_ours_is_put() -> None:
    assert "_launch_process_observer(self.procs)" in Path(subprocess_script.__file__).read_text()


@pytest.mark.parametrize(
    ("dies", "code", "says"),
    [
        ("import os; os.kill(os.getpid(), 9)", 3, "rank 1 (process {}) was killed by SIGKILL (out of memory?)"),
        ("import os; os.abort()", 3, "rank 1 (process {}) was killed by SIGABRT"),
        ("raise ValueError", 3, "rank 1 (process {}) ended with exit code 1, its traceback says why"),
        ("import sys; sys.exit(2)", 2, ""),
    ],
)
def test_the_observer_tells_and_ends_all(
    dies: str, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lost_ranks, "GRACE", 0.1)
    for name, value in {"LOCAL_RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    ended: list[int] = []

    def end(number: int) -> None:
        ended.append(number)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", end)
    children = [subprocess.Popen([sys.executable, "-c", text]) for text in (dies, "import time; time.sleep(60)")]
    observer = lost_ranks.Observer(children)
    assert not lost_ranks.Observer(children[1:])._run()
    children[0].wait()
    lost_ranks._children[:] = children
    with pytest.raises(SystemExit):
        observer._run()
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("align: ")]
    assert ended == [code]
    assert len(told) == bool(says)
    assert not told or told[0].startswith("align: " + says.format(children[0].pid))
    assert children[1].wait(5) == -9
    lost_ranks._children.clear()


def test_a_process_whose_parent_is_gone_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    for rank in ("1", "2"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        lost_ranks._watch_parent(-1)
    assert ended == [3, 3]
    assert re.fullmatch(r"align: rank 0 \(process -1\) is gone, probably killed: .*\n", capfd.readouterr().err)


class Faulty(Callback):
    """Fails on one rank, in one way, at the fourth batch."""

    def __init__(self, rank: int, way: str, mark: str) -> None:
        self.rank, self.way, self.mark = rank, way, mark

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank != self.rank or batch_idx != 3:
            return
        Path(self.mark).touch()
        if self.way == "hang":
            time.sleep(200)
        if self.way == "os":
            raise OSError(28, "No space left on device", "somewhere")
        raise ZeroDivisionError("a mistake")


CASES = [
    ("ddp", PLAIN, 0, "kill", r"align: rank 0 \(process \d+\) is gone"),
    ("ddp", PLAIN, 1, "os", r"align fit: rank 1: somewhere: No space left on device"),
    ("ddp", PLAIN, 0, "os", r"align fit: rank 0: somewhere: No space left on device"),
    ("ddp", PLAIN, 1, "raise", r"align: rank 1 \(process \d+\) ended with exit code 1"),
    ("ddp", PLAIN, 1, "hang", r"align fit: rank 0: rank 1 \(process \d+\) did not answer in time"),
    ("ddp", PLAIN, 0, "hang", r"align fit: rank 1: another process is gone or does not answer"),
    ("fsdp2", PLAIN, 1, "kill", r"align: rank 1 \(process \d+\) was killed by SIGKILL"),
    ("fsdp2", PLAIN, 1, "hang", r"align fit: rank 0: rank 1 \(process \d+\) did not answer in time"),
    ("ddp", TORCHRUN, 1, "kill", r"exitcode *: -9"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "launcher", "rank", "way", "says"), CASES)
def test_the_job_ends(
    strategy: str,
    launcher: list[str],
    rank: int,
    way: str,
    says: str,
    tmp_path: Path,
    model_folder: Path,
    pairs_file: Path,
) -> None:
    run = Launched(tmp_path / "run", words(pairs_file, model_folder, strategy))
    if way == "kill":
        seconds = run.start(launcher, ("before_step", 4, NINE), rank=rank)
    else:
        faulty = ["--trainer.callbacks+", "tests.processes.test_ranks.Faulty", "--trainer.callbacks.rank", str(rank)]
        run.words += [*faulty, "--trainer.callbacks.way", way, "--trainer.callbacks.mark", str(run.mark)]
        if way == "hang":
            name = {"ddp": "DDPStrategy", "fsdp2": "align.training.sharded_strategy.ShardedStrategy"}[strategy]
            run.words += ["--trainer.strategy", name, *TIMEOUT]
        seconds = run.start(launcher, ("never", 1, NINE))
    print(f"\n{strategy}, rank {rank}, {way}: ended {seconds:.1f} s later with exit code {run.code}")
    assert seconds < 30 + (60 if way == "hang" else 0), run.log
    assert len(re.findall(says, run.log)) == 1, run.log[-3000:]
    if launcher is PLAIN and not (way == "kill" and rank == 0):
        assert run.code == 3, run.log[-3000:]
    assert ("Traceback" in run.log) == (way == "raise"), run.log[-3000:]


def test_a_rank_says_which_it_is(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert main(["fit", "-c", "nowhere.yaml"]) == 2
    assert capfd.readouterr().err.startswith("align fit: rank 3: config nowhere.yaml")
