"""What is known of the tasks of a study: which have ended, under what, and why one has to be done again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

from align.errors import ConfigError, StoreError
from align.evaluation.run_log import FINISHED
from align.files import atomic_write_text
from align.studies.tasks import Task

FOLDER = "study"
"""Below the study's own: a file per task, and its output where several run at once."""
GOES_ON = "goes on"
"""Why a step is done that was begun and cut off."""
Ending = Literal["begun", "finished", "failed"]


class State(NamedTuple):
    """What is to be done for a task."""

    done: bool
    """Whether nothing is."""
    why: str
    """In words: finished, to be begun, to go on, or to be done again and why."""
    aside: bool = False
    """Whether its folder holds the outcome of other settings, which is kept beside the new one."""


def record_path(out: Path, task: Task) -> Path:
    """Return the file that says what has become of a task."""
    return out / FOLDER / f"{task.name}.json"


def state_of(out: Path, task: Task) -> State:
    """Return what is to be done for a task.

    Raises ConfigError where its folder is there but was not made by the study, StoreError for a damaged record.
    """
    there = task.folder.exists()  # before the record, which is written before the folder is
    record = read_record(record_path(out, task))
    if record is None:
        if there and not task.step.folder and task.step.table is None:
            raise ConfigError(
                f"{task.folder} is there and was not made by this study: remove it, or choose another --out"
            )
        return State(False, "to be done")
    if record["reads"] != json.loads(json.dumps(task.reads, default=str)):
        return State(False, f"again: {changed(record['reads'], task.reads)}", there and not task.step.folder)
    made = there or not record.get("made", True)
    if record["ending"] == "finished":
        return State(True, "finished") if made else State(False, f"again: {task.folder} is gone")
    if task.step.fits and (task.folder / FINISHED).exists():
        return State(True, "finished")  # this program was cut off just before it could note it
    return State(False, GOES_ON if record["ending"] == "begun" else "again: it failed")


def write_record(out: Path, task: Task, ending: Ending, **more: Any) -> None:
    """Keep what has become of a task."""
    known = {"ending": ending, "made": task.folder.exists(), "at": time.time(), "command": list(task.words)}
    text = json.dumps({**known, **more, "reads": task.reads}, indent=1, default=str)
    atomic_write_text(record_path(out, task), text)


def changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return the first thing that decides an outcome and is another."""
    files = [
        name for name in {**before["files"], **now["files"]} if before["files"].get(name) != now["files"].get(name)
    ]
    if files:
        return f"{files[0]} has changed" if files[0] in before["files"] else f"{files[0]} is read too"
    needs = [name for name, key in now["needs"].items() if before["needs"].get(name) != key]
    if needs:
        return f"{needs[0]} is another"
    pairs = zip(before["words"], now["words"], strict=False)
    place = next((n for n, (old, new) in enumerate(pairs) if old != new), min(len(before["words"]), len(now["words"])))
    old, new = (" ".join(words[max(0, place - 1) : place + 1]) for words in (before["words"], now["words"]))
    return f"{old!r} is {new!r} now" if old != new else "other settings"


def put_aside(folder: Path) -> Path:
    """Move a folder out of the way, and return where it is now."""
    number = next(n for n in range(1, 10**6) if not folder.with_name(f"{folder.name}.before-{n}").exists())
    return folder.rename(folder.with_name(f"{folder.name}.before-{number}"))


def read_record(path: Path) -> dict[str, Any] | None:
    """Return what is known of a task, None where nothing is. Raises StoreError for a damaged record."""
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["ending"] in ("begun", "finished", "failed") and {"files", "needs", "words"} <= set(found["reads"]):
            return found
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{path}: is damaged ({error}): remove it, and its step is done again") from error
    raise StoreError(f"{path}: is no record of a step: remove it, and its step is done again")
