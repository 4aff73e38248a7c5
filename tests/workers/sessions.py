"""Stand-ins of a Ray session, and the workers of a real one."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import psutil

from align.workers.ray_session import RaySession
from align.workers.ray_settings import RayWorkers
from align.workers.ray_worker import Make, RayWorker, versions


class HereSession(RaySession):
    """Does what workers do in this process, through the bytes that are sent, in another order."""

    def __init__(self, settings: RayWorkers = RayWorkers(2, gpus=0), setting: str = "ray") -> None:
        super().__init__(settings, setting)
        self.runs = 0

    def check(self) -> None:
        pass

    def run(self, make: Make, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self.runs += 1
        pool = [RayWorker(pickle.dumps(make), versions(), 1) for _ in range(self.settings.workers)]
        for place in reversed(range(len(tasks))):
            done = pool[place % len(pool)]({"place": [place], "task": [pickle.dumps(tasks[place])]})
            yield done["place"][0], self._value(pickle.loads(done["done"][0]))


def drivers() -> list[psutil.Process]:
    """Return the processes that talk to Ray for this one or its children."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "align.workers.ray_driver" in process.cmdline():
                found.append(process)
    return found


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    """Return the workers that Ray has started for a driver, which hold models."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == driver.pid and "".join(process.cmdline()[:1]).startswith("ray::MapWorker"):
                found.append(process)
    return found


def all_of(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def gone(session: int, seconds: float = 60) -> bool:
    """Tell whether no process of a session is left, at the latest in so many seconds."""
    end = time.monotonic() + seconds
    while all_of(session) and time.monotonic() < end:
        time.sleep(0.2)
    return not all_of(session)
