"""Tasks by workers of a real Ray on this machine: a killed one loses nothing, what cannot be is said in one line."""

from __future__ import annotations

import ast
import importlib.util
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest

from align.errors import ConfigError, ModelError, Paused
from align.workers.ray_process import Driver
from align.workers.ray_session import RaySession
from align.workers.ray_settings import RayWorkers
from align.workers.ray_worker import Done
from tests.test_imports import FILES, ROOT
from tests.workers.sessions import drivers, gone
from tests.workers.tasks import doubling, dying, refusing

TWO = RayWorkers(2, gpus=0)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RaySession]:
    pytest.importorskip("ray")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = RaySession(TWO, "ray")
    yield found
    found.close()


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_nothing_is_left(session: RaySession, tmp_path: Path) -> None:
    """Its batch is done by the worker in its place; ports are on the loopback address, nothing is left at the end."""
    with pytest.warns(UserWarning, match="the second engine draws") as told:
        found, killed = killing_the_first(session)
    assert {place: value for place, (value, _) in found.items()} == {n: 2 * n for n in range(6)}
    assert sum(pid == killed for _, pid in found.values()) == 1
    assert len({pid for _, pid in found.values()}) >= 2
    assert len(told) == 1
    (driver,) = drivers()
    reached = {c.laddr.ip for p in (driver, *driver.children(recursive=True)) for c in listening(p)}
    assert reached
    assert reached <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    folder = session._driver.folder if session._driver else tmp_path
    assert folder.exists()
    session.close()
    assert gone(driver.pid)
    assert not folder.exists()
    assert not (tmp_path / ".ray").exists()


def killing_the_first(session: RaySession) -> tuple[dict[int, tuple[int, int]], int]:
    """Return what six tasks gave, and which worker was killed once it had done one."""
    found, killed = {}, 0
    for place, (value, pid) in session.run(doubling, range(6)):
        found[place] = value, pid
        if not killed:
            killed = pid
            os.kill(killed, signal.SIGKILL)
    return found, killed


@pytest.mark.slow
def test_who_takes_the_last_result_may_leave_it_at_that(tmp_path: Path) -> None:
    """As rounds do: the session goes on, and another run is not answered by what was left of the one before."""
    session, (ours, theirs) = RaySession(TWO, "ray"), Pipe()
    session._driver = Driver(Going(), ours, tmp_path)  # type: ignore[arg-type]
    for start in (1, 5):
        for place in (1, 0):
            theirs.send((place, pickle.dumps(Done(start + place))))
        theirs.send(None)
        stream = session.run(doubling, range(2))
        assert [next(stream), next(stream)] == [(1, start + 1), (0, start)]
        stream.close()
        assert session._driver is not None
        assert len(theirs.recv().tasks) == 2
    assert not ours.poll()


class Going:
    """A process that goes on."""

    def poll(self) -> None:
        return None


def listening(process: psutil.Process) -> list[psutil._common.pconn]:
    return [c for c in process.net_connections() if c.status == psutil.CONN_LISTEN]


@pytest.mark.slow
def test_what_cannot_be_done_is_said_and_ends(session: RaySession) -> None:
    with pytest.raises(ModelError, match="weights are not whole: fetch them again") as raised:
        list(session.run(refusing, range(3)))
    assert "refusing" in str(raised.value.__cause__)  # where on the worker
    with pytest.raises(Paused, match=r"gave up after 0 of 3 batches \(a worker died 4 times") as paused:
        list(session.run(dying, range(3)))
    assert paused.value.exit_code == 75
    assert drivers() == []
    with pytest.raises(Paused, match=r"had no worker finish a batch for 0\.1 s.*raise ray\.patience"):
        list(RaySession(RayWorkers(2, gpus=0, patience=0.1), "ray").run(doubling, range(3)))
    with pytest.raises(ConfigError, match=r"ray\.workers: 500 with 1 CPU core and 1 GPU each, Ray on this machine has"):
        RaySession(RayWorkers(500), "ray").check()
    with pytest.raises(Paused, match="the Ray cluster of this machine cannot be joined"):
        RaySession(RayWorkers(2, "auto"), "ray").check()


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["command", "driver"])
def test_no_process_outlives_a_killed_one(killed: str, tmp_path: Path) -> None:
    """Neither Ray nor its workers are left once the command, or the process that talks to Ray, is killed."""
    pytest.importorskip("ray")
    code = (
        "from align.workers.ray_session import RaySession\nfrom align.workers.ray_settings import RayWorkers\n"
        "from tests.workers.tasks import doubling\n"
        "for _ in RaySession(RayWorkers(2, gpus=0), 'ray').run(doubling, range(1000)): print('done', flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
    command = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "done\n"
    (driver,) = drivers()
    if killed == "command":
        command.kill()
    else:
        driver.kill()
        _, told = command.communicate(timeout=120)
        assert "Paused: ray: Ray on this machine was lost" in told
    assert gone(driver.pid)
    command.communicate()


@pytest.mark.bad_input
def test_a_cluster_that_cannot_be_reached_is_named_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with pytest.raises(Paused, match=rf"engine: the Ray cluster at 127\.0\.0\.1:{port} cannot be reached"):
        RaySession(RayWorkers(2, f"127.0.0.1:{port}"), "engine").check()


def test_ray_is_imported_where_it_is_asked_for_alone() -> None:
    """No file of ours imports it at its top, and one alone inside a function."""
    where = {
        (str(path.relative_to(ROOT)), node in tree.body)
        for path in FILES
        for tree in [ast.parse(path.read_text())]
        for node in ast.walk(tree)
        for name in imported(node)
        if name.split(".")[0] == "ray"
    }
    assert where == {("align/workers/ray_driver.py", False)}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


@pytest.mark.bad_input
def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else real(name))
    with pytest.raises(ConfigError, match=r"engine needs the package ray: pip install 'align-lm\[ray\]', or leave"):
        RaySession(TWO, "engine").check()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"workers": 0}, "workers and cpus must be at least 1"),
        ({"cpus": 0}, "workers and cpus must be at least 1"),
        ({"patience": 0.0}, "patience positive"),
        ({"patience": float("inf")}, "patience positive"),
        ({"gpus": -1.0}, r"gpus: expected a share of a GPU or a whole number, got -1"),
        ({"gpus": 1.5}, r"gpus: expected a share of a GPU or a whole number, got 1\.5"),
        ({"address": "ray://head:10001"}, r"expected HOST:PORT .* got 'ray://head:10001'"),
        ({"address": "head"}, "expected HOST:PORT"),
        ({"address": ""}, "expected HOST:PORT"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        RayWorkers(**{"workers": 1, **wrong})  # type: ignore[arg-type]
