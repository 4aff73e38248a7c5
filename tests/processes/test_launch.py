"""The real command, by plain launch and by launchers: it trains, ends soon when one process dies, and goes on."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.processes.runs import NINE, Pair, command, free_port, slurm_environment
from tests.processes.test_resume import words
from tests.resume.runs import KILL, KILL_RANK, same
from tests.test_configs import ROOT

PLAIN = ["-m", "align"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "align"]


class Launched(Pair):
    """The command in a session of its own."""

    code = 0
    """With which the first process ended."""

    def start(self, launcher: list[str], kill: tuple[str, int, int] | None = None, rank: int = 0) -> float:
        """Run until no process is left; return the exit code, or after a kill the seconds since then."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ALIGN_IMPORT_ALLOW": "tests", "OMP_NUM_THREADS": "1"}
        environment["MASTER_PORT"] = str(free_port())
        if kill:
            environment |= {KILL: json.dumps(kill), KILL_RANK: str(rank)}
        with self.root.with_suffix(".log").open("a") as log:
            command = [sys.executable, *launcher, *self.words]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        code = self.code = process.wait(200)
        ended = time.monotonic()
        while members := session_members(process.pid):
            assert time.monotonic() < ended + 60, f"{members} hang"
            time.sleep(0.2)
        if kill is None:
            return code
        assert code != 0, self.log
        return time.time() - self.mark.stat().st_mtime


def session_members(leader: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:  # gone since it was listed
            continue
    return found


@pytest.mark.slow
def test_plain_launch_ends_when_one_process_dies_and_goes_on(
    tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    arguments = words(pairs_file, model_folder, "ddp")
    whole, cut = Pair(tmp_path / "whole", arguments), Launched(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    cut.start(PLAIN, ("before_step", 4, NINE), rank=1)
    assert cut.code == 3, cut.log
    assert len(re.findall(r"align: rank 1 \(process \d+\) was killed by SIGKILL", cut.log)) == 1, cut.log
    assert "Traceback" not in cut.log
    assert cut.start(PLAIN) == 0, cut.log
    same(whole, cut)


class UnderSlurm(Pair):
    environment = staticmethod(slurm_environment)


def test_processes_of_slurm(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    arguments = command("sft", pairs_file, model_folder, strategy="ddp")
    torchrun, slurm = Pair(tmp_path / "torchrun", arguments), UnderSlurm(tmp_path / "slurm", arguments)
    assert torchrun() == 0, torchrun.log
    assert slurm() == 0, slurm.log
    same(torchrun, slurm)


@pytest.mark.slow
def test_ten_kills_of_one_process(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    cases = list(itertools.product((PLAIN, TORCHRUN), (0, 1), ("batch_start", "before_step", "save")))[:10]
    seconds = []
    for number, (launcher, rank, moment) in enumerate(cases):
        run = Launched(tmp_path / f"run{number}", words(pairs_file, model_folder, "ddp"))
        seconds.append(run.start(launcher, (moment, 3, NINE), rank))
    print(f"\n{len(seconds)} kills of one of two processes: ended after {min(seconds):.1f} to {max(seconds):.1f} s")
    assert max(seconds) < 60
