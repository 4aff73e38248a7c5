"""`align study`: runs and measurements that build on each other, over seeds, from one YAML file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from align.cli.functions import FunctionVerb
from align.cli.included_configs import configs_of, content_of
from align.cli.launch import is_one_of_several
from align.cli.stage_start import start_words
from align.errors import AlignError, ConfigError
from align.studies.records import FOLDER
from align.studies.scheduler import Ended, StudyPlan, claimed, run_plan
from align.studies.study_file import Study, read_study
from align.studies.study_table import write_table
from align.studies.tasks import Task, tasks_of

SHOWN = 3
"""Last lines of its output that are told of a step that has failed."""


def study(
    file: str,
    *,
    scale: str | None = None,
    out: str | None = None,
    seeds: list[int] | None = None,
    values: dict[str, Any] | None = None,
    only: list[str] | None = None,
    workers: int = 1,
    dry_run: bool = False,
) -> int:
    """Do the steps of a study that are not finished, each once what it needs is, and print its tables.

    A step is `align fit` on a run file, another command of align, a Python program, or a table over seeds. The same
    command again goes on where it stopped: what is finished under the same settings, files and steps before it is not
    done again, what has changed is, with what needs it, and the former outcome is kept beside it. A step that fails
    holds up only what needs it; the command then ends with 3.

    Args:
        file: The study, a YAML file with `out`, `seeds`, `values`, `scales` and `steps`.
        scale: One of its scales, such as `ci`: other seeds and values, in a folder OUT-SCALE of its own.
        out: Folder to write, in place of the file's.
        seeds: In place of the file's or the scale's.
        values: Values that commands name as `${NAME}`, as in `--values.size 100`.
        only: Names of steps to do, with what they need; null does all.
        workers: Steps at a time. GPUs are shared out between them, their output goes to files.
        dry_run: Print the steps, what is finished and why others are not, and do nothing.
    """
    if is_one_of_several():
        raise ConfigError("a study starts the processes of its steps itself: run it once, not through a launcher")
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    given = read_study(content_of(file), Path(file)).at(scale).given(seeds, values or {})
    given = replace(given, out=out or given.out)
    plan = StudyPlan(Path(given.out), _chosen(given, only))
    if dry_run:
        for task in plan.tasks.values():
            print(f"$ {task.name}: {' '.join(task.words) or 'table'}")
        print(plan)
        return 0
    with claimed(plan.out):
        found = run_plan(plan, _Launch(plan, workers), workers=workers)
    counts = {ending: list(found.values()).count(ending) for ending in ("finished", "failed", "not done")}
    print(f"{plan.out}: " + ", ".join(f"{count} {ending}" for ending, count in counts.items() if count))
    return 3 if counts["finished"] < len(found) else 0


def _chosen(given: Study, only: list[str] | None) -> Mapping[str, Task]:
    """Return the tasks of some steps, and what they need. Raises ConfigError for an unknown step."""
    tasks = tasks_of(given, configs_of)
    if only is None:
        return tasks
    if unknown := [name for name in only if name not in given.steps]:
        raise ConfigError(f"only: {unknown[0]!r} is no step (one of {', '.join(given.steps)})")
    wanted = {name for name, task in tasks.items() if task.step.name in only}
    for name in reversed(tasks):
        wanted |= set(tasks[name].needs) if name in wanted else set()
    return {name: task for name, task in tasks.items() if name in wanted}


class _Launch:
    """Starts the process of a step, and returns why it failed."""

    def __init__(self, plan: StudyPlan, workers: int) -> None:
        self.plan, self.workers = plan, workers

    def __call__(self, task: Task, place: int) -> Ended:
        """Do a task."""
        if task.step.table is not None:
            return Ended(self._gather(task))
        try:
            words = [*task.words, *(start_words(task.words, task.start) if task.start else [])]
        except AlignError as error:
            return Ended(str(error))
        command = [sys.executable, *(words[1:] if words[0] == "python" else ["-m", "align", *words])]
        if self.workers == 1:
            tqdm.write(f"$ {' '.join(words)}")
            sys.stdout.flush()
            code, seconds = waited(subprocess.Popen(command))
            return Ended(_fault(code, None), seconds)
        log = self.plan.out / FOLDER / f"{task.name}.log"
        with log.open("w", encoding="utf-8") as output:
            own = environment(place, self.workers)
            code, seconds = waited(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=own))
        return Ended(_fault(code, log), seconds)

    def _gather(self, task: Task) -> str:
        assert task.step.table is not None
        rows = [self.plan.tasks[name] for name in task.needs]
        try:
            print(f"\n{write_table(task.step.table, rows, task.folder)}\n", flush=True)
        except AlignError as error:
            return str(error)
        return ""


def waited(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Wait for a process; return its exit code, and the CPU seconds of it and all it waited for."""
    with process:
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, round(usage.ru_utime + usage.ru_stime, 1)


def environment(place: int, workers: int) -> dict[str, str]:
    """Return what a process is told of the machine it shares: its own GPUs, and its part of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = {"OMP_NUM_THREADS": str(max(1, cores // workers)), **os.environ}
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = listed.split(",") if listed else [str(n) for n in range(torch.cuda.device_count())]
    each = len(devices) // workers
    own = devices[place * each : (place + 1) * each] if each else devices[place % len(devices) :][:1] if devices else []
    return {**found, "CUDA_VISIBLE_DEVICES": ",".join(own)} if own else found


def _fault(code: int, log: Path | None) -> str:
    """Return why a process failed, nothing where it did not."""
    if code == 0:
        return ""
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    if log is None:
        return ended
    lines = [line.rpartition("\r")[2] for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return f"{ended}, {log}: {' | '.join(line.strip() for line in lines[-SHOWN:])}"


VERB = FunctionVerb(study, positional=True)
