"""The tasks of a study: every step under each of its values and seeds, with what it needs and what decides it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from align.errors import ConfigError, did_you_mean
from align.studies.files_read import Configs, files_read
from align.studies.study_file import RESERVED, Study, StudyStep


@dataclass(frozen=True)
class Task:
    """One command, or one table, with its outcome in one folder."""

    name: str
    step: StudyStep
    words: tuple[str, ...]
    folder: Path
    needs: tuple[str, ...] = ()
    start: Path | None = None
    """The folder of the task whose model it starts from."""
    values: dict[str, Any] = field(default_factory=dict)
    """What it is done under, its seed among them."""
    reads: dict[str, Any] = field(default_factory=dict)
    """What decides its outcome: its words, the hashes of files, the keys of what it needs."""

    @property
    def key(self) -> str:
        """Return the hash of all that decides its outcome."""
        return hashlib.sha256(json.dumps(self.reads, sort_keys=True, default=str).encode()).hexdigest()


def tasks_of(study: Study, configs_of: Configs) -> dict[str, Task]:
    """Return all tasks by name, each behind those it needs. Raises ConfigError for a step that cannot be told apart."""
    found: dict[str, Task] = {}
    by_step: dict[str, list[Task]] = {}
    for step in _in_order(study):
        by_step[step.name] = [_task(study, step, values, by_step, configs_of) for values in _all_values(study, step)]
        found |= {task.name: task for task in by_step[step.name]}
    return found


def needed_steps(study: Study, step: StudyStep) -> list[str]:
    """Return the steps a step builds on. Raises ConfigError for a name that is none of the study's."""
    if step.table is not None:
        named = [row.partition(":")[0] for row in step.table.rows.values()]
    else:
        named = sorted(step.names - {*study.values, *RESERVED} - step.names_of_values)
        named += [name for name in [step.start] if name]
    needed, inherited = (
        list(dict.fromkeys(named)),
        {name for other in study.steps.values() for name in other.names_of_values},
    )
    for name in needed:
        if name not in study.steps and name not in inherited:
            guess = did_you_mean(name, [*study.steps, *study.values])
            raise ConfigError(f"steps.{step.name}: {name!r} is no step and no value of the study{guess}")
    return [name for name in needed if name in study.steps]


def _in_order(study: Study) -> Iterator[StudyStep]:
    """Yield every step behind those it needs. Raises ConfigError for a circle."""
    done: set[str] = set()
    left = dict(study.steps)
    while left:
        ready = [name for name, step in left.items() if set(needed_steps(study, step)) <= done]
        if not ready:
            raise ConfigError(f"steps: {', '.join(left)} need each other in a circle")
        for name in ready:
            yield left.pop(name)
            done.add(name)


def _all_values(study: Study, step: StudyStep) -> list[dict[str, Any]]:
    """Return the values and seeds a step is done under, its own and those of what it needs."""
    if step.table is not None:
        return [{}]
    each = _each(study, step)
    if _seeded(study, step):
        return [{**one, "seed": seed} for one in each for seed in study.seeds]
    return each


def _each(study: Study, step: StudyStep) -> list[dict[str, Any]]:
    if step.table is not None:
        return [{}]
    found = [list(step.each)] if step.each else []
    for name in needed_steps(study, step):
        other = _each(study, study.steps[name])
        if other != [{}] and other not in found:
            found.append(other)
    if len(found) > 1:
        raise ConfigError(f"steps.{step.name}: it and the steps it needs have different `each`: write the same list")
    return found[0] if found else [{}]


def _seeded(study: Study, step: StudyStep) -> bool:
    own = "seed" in step.names or step.fits
    if "seed" in step.names and not study.seeds:
        raise ConfigError(f"steps.{step.name}: ${{seed}} needs `seeds`")
    needed = step.table is None and needed_steps(study, step)
    return bool(study.seeds) and (own or any(_seeded(study, study.steps[n]) for n in needed or ()))


def _task(
    study: Study, step: StudyStep, values: dict[str, Any], by_step: dict[str, list[Task]], configs_of: Configs
) -> Task:
    needed = {name: _matching(by_step[name], values) for name in needed_steps(study, step)}
    label = [str(value) for key, value in values.items() if key == "seed" or key == next(iter(values))]
    name = "-".join([step.name, *label])
    folder = Path(Template(step.folder).substitute(study.values) if step.folder else f"{study.out}/{name}")
    places = {n: tasks[0].folder for n, tasks in needed.items()} | {"here": folder, "study": study.place}
    words = _words(step, study, values, {key: str(path) for key, path in places.items()})
    symbols = _words(step, study, values, {key: f"<{key}>" for key in places})
    reads: dict[str, Any] = {
        "words": list(symbols),
        "from": step.start,
        "files": files_read(symbols, words, configs_of),
    }
    reads["needs"] = {task.name: task.key for tasks in needed.values() for task in tasks}
    if step.table is not None:
        reads["table"] = vars(step.table)
    start = needed[step.start][0].folder if step.start else None
    return Task(name, step, words, folder, tuple(reads["needs"]), start, values, reads)


def _matching(tasks: Sequence[Task], values: dict[str, Any]) -> list[Task]:
    """Return the tasks of a step under the same values: one, or all of them for a table."""
    return [t for t in tasks if all(values.get(key, value) == value for key, value in t.values.items())]


def _words(step: StudyStep, study: Study, values: dict[str, Any], places: dict[str, str]) -> tuple[str, ...]:
    if step.table is not None:
        return ()
    try:
        quoted = {key: shlex.quote(place) for key, place in places.items()}
        words = shlex.split(Template(step.command).substitute({**study.values, **values, **quoted}))
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"steps.{step.name}.command: {error}: quote what has spaces, write $$ for a dollar"
        ) from error
    if step.fits:
        if "--trainer.default_root_dir" in words:
            raise ConfigError(f"steps.{step.name}: --trainer.default_root_dir belongs to the study: leave it out")
        seed = (
            [] if "seed" not in values or "--seed_everything" in words else ["--seed_everything", str(values["seed"])]
        )
        words += [*seed, "--trainer.default_root_dir", places["here"]]
    return tuple(words)
