"""Does the tasks of a study in their order, several at a time: what has failed holds up only what needs it."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from align.errors import ConfigError, StoreError
from align.studies.records import FOLDER, GOES_ON, Ending, put_aside, state_of, write_record
from align.studies.tasks import Task

Outcome = Literal["finished", "failed", "not done"]


class Ended(NamedTuple):
    """How the process of a task has ended."""

    fault: str = ""
    """Why it failed; empty where it did not."""
    cpu_seconds: float | None = None
    """Of it and all it waited for; null where there was no process."""


Launch = Callable[[Task, int], Ended]
"""Does a task in one of the places there are."""


class StudyPlan(NamedTuple):
    """The tasks of a study and the folder it is kept in."""

    out: Path
    tasks: Mapping[str, Task]
    writes: bool = True
    """False where another process of the same command keeps the records."""

    def __str__(self) -> str:
        states = {name: state_of(self.out, task) for name, task in self.tasks.items()}
        rows = [f"{name}: {state.why}" for name, state in states.items()]
        return "\n".join([*rows, f"{len(rows)} steps, {sum(state.done for state in states.values())} finished"])


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Keep others from a study. Raises StoreError where another process is at it, ConfigError without a folder."""
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / FOLDER / ".lock")
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StoreError(f"{out}: another process is at this study: wait for it, or choose another --out") from error
    except OSError as error:
        raise ConfigError(f"out {out}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def run_plan(plan: StudyPlan, launch: Launch, *, workers: int = 1) -> dict[str, Outcome]:
    """Do what is to be done and return what has become of every task; what needs a failed one is not done."""
    for task in plan.tasks.values():
        state_of(plan.out, task)  # what is at fault is told before anything is done
    found: dict[str, Outcome] = {}
    sorter = TopologicalSorter({name: task.needs for name, task in plan.tasks.items()})
    sorter.prepare()
    places: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(workers):
        places.put(place)
    order = turns(plan.tasks)
    at_work: dict[Future[Outcome], str] = {}
    ready: list[str] = []
    with ThreadPoolExecutor(workers) if workers > 1 else _Inline() as pool:
        while sorter.is_active():
            ready = sorted([*ready, *sorter.get_ready()], key=order.__getitem__)
            while ready and len(at_work) < workers:
                name = ready.pop(0)
                task = plan.tasks[name]
                if failed := [need for need in task.needs if found[need] != "finished"]:
                    print(f"{name}: not done, it needs {failed[0]}", flush=True)
                    found[name] = "not done"
                    sorter.done(name)
                else:
                    at_work[pool.submit(_do, plan, task, launch, places)] = name
            for future in wait(at_work, return_when=FIRST_COMPLETED).done if at_work else ():
                name = at_work.pop(future)
                found[name] = future.result()
                sorter.done(name)
    return {name: found[name] for name in plan.tasks}


def turns(tasks: Mapping[str, Task]) -> dict[str, tuple[int, int, int]]:
    """Return what decides which of the tasks that are ready is done first.

    All steps are done under the first seed and the first of their values before any is under the next, so that the
    tables of a study that is cut off compare what was done alike.
    """
    seeds = list(dict.fromkeys(task.values["seed"] for task in tasks.values() if "seed" in task.values))
    found: dict[str, tuple[int, int, int]] = {}
    places: Counter[tuple[str, Any]] = Counter()
    for number, (name, task) in enumerate(tasks.items()):
        seed = task.values.get("seed")
        found[name] = (seeds.index(seed) if "seed" in task.values else -1, places[task.step.name, seed], number)
        places[task.step.name, seed] += 1
    return found


def _do(plan: StudyPlan, task: Task, launch: Launch, places: queue.SimpleQueue[int]) -> Outcome:
    state = state_of(plan.out, task)
    if state.done:
        print(f"{task.name}: finished already in {task.folder}", flush=True)
        return "finished"
    kept = f"; the former outcome is kept in {put_aside(task.folder)}" if state.aside else ""
    print(f"{task.name}: {state.why}{kept}", flush=True)
    _write(plan, task, "begun")
    place, began = places.get(), time.monotonic()
    try:
        fault, cpu = launch(task, place)
    finally:
        places.put(place)
    seconds = round(time.monotonic() - began, 1)
    spent = {"seconds": seconds, "cpu_seconds": cpu} if state.why != GOES_ON else {}  # before it was cut off: unknown
    _write(plan, task, "failed" if fault else "finished", **spent, fault=fault)
    print(f"{task.name}: {f'FAILED, {fault}' if fault else 'finished'} after {seconds:g} s", flush=True)
    return "failed" if fault else "finished"


def _write(plan: StudyPlan, task: Task, ending: Ending, **more: Any) -> None:
    if plan.writes:
        write_record(plan.out, task, ending, **more)


class _Inline(Executor):
    """Does a task at once in this thread: the only one that may take signals, as training does."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do it."""
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done
