"""Two machines of torchrun on one: one of them is lost, comes back, and the run goes on from the last whole checkpoint."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from align.cli import lost_ranks, run_folder
from align.cli.launch import shuts_out_machines
from align.cli.run_folder import CONFIG, LOCK, OWNER, claim, release
from align.errors import StoreError
from tests.processes.runs import Pair, free_port
from tests.processes.test_resume import words
from tests.resume.runs import KILL, same
from tests.test_configs import ROOT

STOP = int(signal.SIGSTOP)
QUICK = ["--rdzv-conf", "keep_alive_interval=1,keep_alive_max_attempt=3"]
"""A machine is lost for torchrun after three seconds, not fifteen."""


class Node:
    """One machine: torchrun and what it has started."""

    def __init__(self, run: Pair, port: int, kill: tuple[str, int, int] | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ALIGN_IMPORT_ALLOW": "tests", "OMP_NUM_THREADS": "1"}
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        if kill:
            environment[KILL] = json.dumps(kill)
        launcher = [
            *("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3", *QUICK),
            *("--rdzv-backend", "c10d", "--rdzv-id", "two", "--rdzv-endpoint", f"localhost:{port}", "-m", "align"),
        ]
        with run.root.with_suffix(".log").open("a") as log:
            self.process = psutil.Popen(
                [sys.executable, *launcher, *run.words], env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def lose(self, *, launcher_only: bool = False) -> None:
        """End the launcher and all it has started, as a power cut does."""
        below = self.process.children(recursive=True)
        for process in [self.process, *([] if launcher_only else below)]:
            process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        _, left = psutil.wait_procs(below, timeout=10)
        assert not left, "processes outlive their launcher"

    def ends(self, seconds: float) -> int:
        code: int = self.process.wait(seconds)
        return code


class Nodes:
    """Two machines that run one command, the first of which the other one asks where to meet."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.run, self.port = (
            Pair(folder, [*arguments, "--trainer.num_nodes", "2", "--trainer.devices", "1"]),
            free_port(),
        )
        self.alive: list[Node] = []

    def start(self, kill: tuple[str, int, int] | None = None) -> Node:
        node = Node(self.run, self.port, kill)
        self.alive.append(node)
        return node

    def start_both(self, first: tuple[str, int, int] | None, second: tuple[str, int, int] | None) -> tuple[Node, Node]:
        one = self.start(first)
        time.sleep(3)  # it is the one that has the port
        return one, self.start(second)

    def wait_for_the_moment(self) -> None:
        until = time.monotonic() + 120
        while not self.run.mark.exists():
            assert time.monotonic() < until, self.run.log
            time.sleep(0.1)

    def end(self) -> None:
        for node in self.alive:
            if node.process.is_running() and node.process.poll() is None:
                node.lose()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "moment", "lost"),
    [
        ("ddp", ("before_step", 5, STOP), "second"),
        ("fsdp2", ("before_step", 5, STOP), "second"),
        ("fsdp2", ("save", 2, STOP), "second"),
        ("ddp", ("batch_start", 6, 0), "launcher"),
        ("ddp", ("before_step", 5, STOP), "first"),
    ],
)
def test_a_lost_machine_comes_back(
    strategy: str, moment: tuple[str, int, int], lost: str, tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    arguments = words(pairs_file, model_folder, strategy)
    whole, nodes = Pair(tmp_path / "whole", arguments), Nodes(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    try:
        first, second = nodes.start_both(*((moment, None) if lost == "first" else (None, moment)))
        nodes.wait_for_the_moment()
        lost_at = time.monotonic()
        (first if lost == "first" else second).lose(launcher_only=lost == "launcher")
        if lost == "first":  # without the place where they meet, the other one ends too
            assert second.ends(60) != 0
            print(f"\n{strategy}: the other machine ended {time.monotonic() - lost_at:.1f} s later")
            first, again = nodes.start_both(None, None)
        else:
            again = nodes.start()
        assert again.ends(120) == 0, nodes.run.log
        assert first.ends(60) == 0, nodes.run.log
    finally:
        nodes.end()
    print(f"\n{strategy}, {lost} lost: finished {time.monotonic() - lost_at:.1f} s later")
    assert nodes.run.log.count("going on with the run in") == 1, nodes.run.log
    assert "from its start" not in nodes.run.log
    same(whole, nodes.run)


@pytest.mark.parametrize(
    ("changes", "out"),
    [
        ({}, True),
        ({"TORCHELASTIC_USE_AGENT_STORE": "False"}, False),  # with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
        ({"TORCHELASTIC_MAX_RESTARTS": "0"}, False),
        ({"GROUP_WORLD_SIZE": "1"}, False),
    ],
)
def test_torchrun_that_takes_no_machine_back_is_known(
    changes: dict[str, str], out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "2"}
    for name, value in {**usual, **changes}.items():
        monkeypatch.setenv(name, value)
    assert shuts_out_machines() == out


@pytest.mark.parametrize(("torchrun", "begun"), [(True, True), (True, False), (False, True)])
def test_a_process_that_comes_back_waits_for_the_lock_of_the_lost_one(
    torchrun: bool, begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if begun:
        (tmp_path / CONFIG).touch()
    if torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "two")
        monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(run_folder, "LEASE", 20.0)
    holder = FileLock(tmp_path / LOCK, thread_local=False)
    holder.acquire()
    (tmp_path / OWNER).write_text('{"pid": 7, "host": "lost"}')
    freed = threading.Timer(0.5, holder.release)
    freed.start()
    try:
        if torchrun and begun:
            claim(tmp_path)
            assert "waiting up to 20 s for process 7 on lost" in capsys.readouterr().out
        else:
            with pytest.raises(StoreError, match="in use by process 7 on lost"):
                claim(tmp_path)
    finally:
        freed.join()
        release()


def test_a_process_whose_torchrun_is_gone_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "two")
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        lost_ranks._watch_parent(-1)
    assert ended == [3, 3]
    told = capfd.readouterr().err
    assert told.startswith("align: the launcher of this machine (process -1) is gone, probably killed: ")
    assert told.count("\n") == 1
