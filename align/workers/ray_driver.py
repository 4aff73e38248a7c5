"""The process that talks to Ray for a command: `python -m align.workers.ray_driver FD`, started by `RaySession`.

Ray sets signal handlers, starts threads and may end the process that uses it; here none of this touches a training.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import psutil

RESTARTS = 3
"""How often a worker is started again that died, and its batch computed anew, before the cluster is given up."""

STARTS = 3
"""How often Ray is started here: it waits 30 seconds for its processes, too little on a busy machine."""
STORE = 2**28
"""Bytes for tasks and their results where Ray is started here."""


class Tasks(NamedTuple):
    """What a driver is asked to do: work for workers, each made by the same bytes."""

    make: bytes
    expected: dict[str, str]
    tasks: list[bytes]


class Cluster(NamedTuple):
    """Which cluster, and what a worker takes of it."""

    address: str | None
    workers: int
    gpus: float
    cpus: int
    folder: str
    """Of Ray's own files, where it is started here."""


def main(number: int) -> None:
    """Do what the command asks until it closes the connection or ends."""
    threading.Thread(target=_end_with_command, daemon=True).start()
    command = Connection(number)
    cluster: Cluster = command.recv()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        command.send(_connected(cluster))
        while True:
            _do(cluster, command.recv(), command)
    if cluster.address is not None:
        import ray

        ray.shutdown()  # of a Ray that was started here nothing is left to be told
    _end_all()


def _do(cluster: Cluster, asked: Tasks, command: Connection) -> None:
    try:
        for found in _results(cluster, asked):
            command.send(found)
        command.send(None)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        command.send(_told(error))


def _told(error: Exception) -> str:
    """Return what became of workers, or what Ray says; of one that could not begin the last line of its traceback."""
    name, text = type(error).__name__, str(error).strip()
    if "creation task" in text:
        return f"a worker did not begin: {text.splitlines()[-1]}"
    if name == "ActorDiedError":
        return f"a worker died {RESTARTS + 1} times, as for want of memory"
    return f"{name}: {text}"


def _end_with_command() -> None:
    """End once the command has ended, however it did."""
    sys.stdin.buffer.read()
    _end_all()


def _end_all() -> None:
    """End all that Ray started for the command, then this process."""
    end_session(os.getsid(0))
    os._exit(0)


def end_session(session: int) -> None:
    """End the processes of a driver's session but this one: what Ray started for it."""
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if process.pid != os.getpid() and os.getsid(process.pid) == session:
                process.kill()


def _connected(cluster: Cluster) -> str | int:
    """Connect to Ray, or start it, and return for how many workers there is room; a fault as its text."""
    import ray

    options: dict[str, Any] = {"address": cluster.address}
    if cluster.address is None:
        cores = cluster.cpus * cluster.workers
        options = {"address": "local", "num_cpus": cores, "_temp_dir": cluster.folder, "object_store_memory": STORE}
    for left in reversed(range(STARTS)):
        try:
            ray.init(**options, include_dashboard=False, log_to_driver=False, configure_logging=False)
            break
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                return f"{type(error).__name__}: {error}"
            ray.shutdown()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(_room(node, cluster) for node in nodes)


def _room(node: dict[str, float], cluster: Cluster) -> int:
    """Return how many workers a machine has room for."""
    by_cpus = int(node.get("CPU", 0) // cluster.cpus)
    if not cluster.gpus:
        return by_cpus
    gpus = node.get("GPU", 0)
    return min(by_cpus, int(gpus // cluster.gpus) if cluster.gpus >= 1 else int(gpus) * int(1 // cluster.gpus))


def _results(cluster: Cluster, asked: Tasks) -> Iterator[tuple[int, bytes]]:
    """Yield what became of tasks as they are done: each is a block, so that a worker takes one at a time."""
    import pyarrow
    import ray.data

    from align.workers.ray_worker import RayWorker

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    blocks = [pyarrow.table({"place": [place], "task": [task]}) for place, task in enumerate(asked.tasks)]
    size = min(cluster.workers, len(blocks))
    done = ray.data.from_arrow(blocks).map_batches(
        RayWorker,
        fn_constructor_args=(asked.make, asked.expected, cluster.cpus),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus or None,
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
    )
    for batch in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from zip(batch["place"].to_pylist(), batch["done"].to_pylist(), strict=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
