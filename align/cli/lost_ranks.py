"""Several processes of one run: one that fails or dies ends them all soon, with one line that says which and why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.strategies.launchers import subprocess_script

from align.cli.launch import rank_of, under_torchrun
from align.errors import AlignError, shorten

FAILED = 3
PARENT = "ALIGN_PARENT"
"""The process that starts the others, so that they can tell whether it still runs."""
GRACE = 6.0
"""Seconds for which a process that has lost another one waits for who knows more about it."""
AGAIN = "then give the same command again: it goes on from the last checkpoint"


class RankLost(AlignError):
    """A process of the run that failed, died, or did not answer."""

    exit_code = FAILED


class Observer(_ChildProcessObserver):
    """Watches the processes this one has started, as Lightning's does, and tells what became of one that failed."""

    def __init__(self, children: list[subprocess.Popen[Any]], period: float = 1.0) -> None:
        super().__init__(main_pid=os.getpid(), child_processes=children, sleep_period=period)  # type: ignore[arg-type]
        _children[:] = children

    def _run(self) -> bool:
        codes = [child.poll() for child in self._child_processes]
        failed = next(((rank, code) for rank, code in enumerate(codes, start=1) if code), None)
        if failed is None:
            return all(code == 0 for code in codes)
        rank, code = failed
        if code > 1:
            time.sleep(GRACE)  # it has told why; this process may be about to end by itself
        else:
            child = self._child_processes[rank - 1]
            _tell(f"rank {rank} (process {child.pid}) {_ended(code)}: the other processes are ended too, {AGAIN}")
        end_children(0)
        os._exit(code if code > 1 else FAILED)


_children: list[subprocess.Popen[Any]] = []


@contextmanager
def ending_together() -> Iterator[None]:
    """Run a command that may start further processes, or is one of them."""
    subprocess_script._launch_process_observer = _observe  # type: ignore[attr-defined]
    if under_torchrun() or ("LOCAL_RANK" in os.environ and os.environ.get(PARENT) == str(os.getppid())):
        threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    else:
        os.environ[PARENT] = str(os.getpid())
    try:
        yield
    except BaseException as error:
        if not is_lost(error):
            end_children(GRACE)
            raise
        time.sleep(2 * GRACE)  # whoever knows which process it was ends this one meanwhile
        alive = ", ".join(f"rank {rank} (process {child.pid})" for rank, child in enumerate(_children, 1))
        end_children(0)
        others = f"{alive} did not answer in time" if alive else "another process is gone or does not answer"
        raise RankLost(
            f"{others} ({shorten(error, 160)}): its own lines, or the launcher's, say why; a process that needs longer "
            f"wants a longer --trainer.strategy.timeout, {AGAIN}"
        ) from error
    finally:
        _children.clear()


def _observe(child_processes: list[subprocess.Popen[Any]]) -> None:
    Observer(child_processes).start()


def end_children(seconds: float) -> None:
    """Give the processes this one has started some time to end, and end them."""
    until = time.monotonic() + seconds
    for child in _children:
        try:
            child.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            child.kill()


def is_lost(error: BaseException) -> bool:
    """Return whether an error says that another process cannot be reached any more."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    launched = under_torchrun()  # its processes are no children of the first: they outlive a launcher that is killed
    if os.environ["LOCAL_RANK"] == "0" if launched else rank_of() == 1:  # one of them speaks for all
        who = "the launcher of this machine" if launched else "rank 0"
        _tell(f"{who} (process {parent}) is gone, probably killed: this process ends too, {AGAIN}")
    os._exit(FAILED)


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}, its traceback says why"
    return f"was killed by {signal.Signals(-code).name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")


def _tell(line: str) -> None:
    print(f"align: {line}", file=sys.stderr, flush=True)
