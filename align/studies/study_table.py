"""A table over seeds: means with bootstrap intervals, and differences between rows, as JSON and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.errors import DataError, did_you_mean
from align.evaluation.run_reader import read_series
from align.files import atomic_write_text
from align.strict_json import json_text
from align.studies.figures import Figure, numbers
from align.studies.records import read_record, record_path
from align.studies.table_settings import RowDifference, TableSettings
from align.studies.tasks import Task

METRICS, RECORD = "metrics:", "record:"
COSTS = ("seconds", "cpu_seconds")
BY_PROMPT, ENTITIES = "by_prompt", "entities"
"""Beside a figure its values on every prompt, under its name; in the file what each prompt is about."""


def write_table(settings: TableSettings, tasks: Sequence[Task], folder: Path) -> str:
    """Gather a table from the tasks it needs, write table.json and table.md, and return the Markdown.

    Raises DataError for a file or a figure that is not there, or is no number.
    """
    rows: dict[str, dict[str, Figure]] = {}
    labels: dict[str, str] = {}
    for given in settings.rows.items():
        for label, figures in _rows(settings, given, tasks).items():
            title = f"{given[0]}, {label}" if label else given[0]
            rows[title], labels[title] = figures, label
    for column in settings.columns:
        if not any(column in row for row in rows.values()):
            raise DataError(f"table: no row has {settings.columns[column]!r}, the column {column!r}")
    for title, difference in settings.differences.items():
        for name, figure in _differences(rows, labels, difference).items():
            rows[name][title] = figure
    content = {title: {column: figure.as_dict() for column, figure in row.items()} for title, row in rows.items()}
    atomic_write_text(folder / "table.json", json_text({"rows": content}, indent=1))
    shown = _markdown(settings, rows)
    atomic_write_text(folder / "table.md", shown + "\n")
    return shown


def _markdown(settings: TableSettings, rows: Mapping[str, Mapping[str, Figure]]) -> str:
    columns = [*settings.columns, *settings.differences]
    shown = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for title, row in rows.items():
        cells = [row[column].text(settings.digits) if column in row else "" for column in columns]
        shown.append(f"| {title} | {' | '.join(cells)} |")
    if nested := [c for c in columns if any(c in row and row[c].nested for row in rows.values())]:
        others = "" if len(nested) == len(columns) else "; of others over seeds"
        shown += ["", f"95 % intervals of {', '.join(nested)}: over seeds, entities and prompts{others}."]
    return "\n".join(shown)


def _differences(
    rows: Mapping[str, Mapping[str, Figure]], labels: Mapping[str, str], difference: RowDifference
) -> dict[str, Figure]:
    """Return the difference of each row that has the column to the named one, or to its row of the same `each`."""
    found = {}
    for title, row in rows.items():
        names = [f"{difference.row}, {labels[title]}"] if labels[title] else []
        against = next((name for name in (*names, difference.row) if name in rows), None)
        if against is None or difference.column not in rows[against]:
            raise DataError(
                f"table: differences: {title!r} has no {difference.row!r} beside it with the column "
                f"{difference.column!r}: name a row that is done once, or under the same values"
            )
        if against != title and difference.column in row:
            found[title] = row[difference.column].minus(rows[against][difference.column])
    return found


def _rows(settings: TableSettings, given: tuple[str, str], tasks: Sequence[Task]) -> dict[str, dict[str, Figure]]:
    """Return the figures of a step over all seeds, by the values it is done under."""
    step, _, at = given[1].partition(":")
    by_values: dict[str, list[Task]] = {}
    for task in (one for one in tasks if one.step.name == step):
        label = ", ".join(f"{name}={value}" for name, value in list(task.values.items())[:1] if name != "seed")
        by_values.setdefault(label, []).append(task)
    found = {}
    for label, own in by_values.items():
        figures = {column: _figure(own, settings.file, at, place) for column, place in settings.columns.items()}
        found[label] = {column: figure for column, figure in figures.items() if figure is not None}
    return found


def _figure(tasks: Sequence[Task], file: str, at: str, place: str) -> Figure | None:
    """Return a figure of all seeds, None where none of them has it. Raises DataError where some have it."""
    found = {str(task.values.get("seed", "")): _value(task, file, at, place) for task in tasks}
    if all(value is _NONE for value, _, _ in found.values()):
        return None
    if without := [seed for seed, (value, _, _) in found.items() if value is _NONE]:
        raise DataError(f"table: {tasks[0].step.name} has no {place!r} for seed {without[0]}, and for others it has")
    measured = {seed: one for seed, one in found.items() if one[0] is not None and math.isfinite(one[0])}
    values = {seed: float(value) for seed, (value, _, _) in measured.items()}
    prompts = {seed: numbers(own) for seed, (_, own, _) in measured.items() if own is not None}
    if not prompts or len(prompts) < len(measured):
        return Figure(values, len(found))
    return Figure(values, len(found), prompts, next(iter(measured.values()))[2])


_NONE = object()


def _value(task: Task, file: str, at: str, place: str) -> tuple[Any, list[float | None] | None, tuple[str, ...]]:
    """Return a figure of one task, `_NONE` where it has none; its value on every prompt; what those are about."""
    if place.startswith(METRICS):
        series = read_series(task.folder).get(place.removeprefix(METRICS))
        return series.values[-1] if series is not None and series.values else _NONE, None, ()
    if place.startswith(RECORD):
        return _recorded(task, place.removeprefix(RECORD)), None, ()
    path = task.folder / file
    if task.step.fits and not path.exists():
        return _NONE, None, ()  # a run has its metrics alone
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"table: {path}: cannot be read ({error})") from error
    row = _inside(content, at)
    if row is _NONE:
        known = list(content) if isinstance(content, Mapping) else []
        raise DataError(f"table: {path} has no {at!r}{did_you_mean(at, known)}")
    value = _inside(row, place)
    if value is not _NONE and value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DataError(f"table: {place!r} in {path} is no number")
    parent, _, name = place.rpartition(".")
    own = _inside(_inside(row, parent), f"{BY_PROMPT}.{name}")
    entities = _inside(content, ENTITIES)
    if not isinstance(own, list) or not isinstance(entities, list):
        return value, None, ()
    return value, own, tuple(map(str, entities))


def _recorded(task: Task, name: str) -> float | None:
    """Return what doing a task took; None where it was cut off in between, or not done by a process."""
    if task.step.folder or name not in COSTS:
        fault = "has a folder of its own, which may be of another study" if task.step.folder else "is not recorded"
        raise DataError(f"table: {RECORD}{name}: {task.step.name} {fault} (one of {', '.join(COSTS)}, of a step's own)")
    found: float | None = (read_record(record_path(task.folder.parent, task)) or {}).get(name)
    return found


def _inside(content: Any, place: str) -> Any:
    """Return what stands at a place such as `models.policy.reward`; a name may hold points itself."""
    if not place:
        return content
    if isinstance(content, list):
        first, _, rest = place.partition(".")
        inside = first.isdigit() and int(first) < len(content)
        return _inside(content[int(first)], rest) if inside else _NONE
    if not isinstance(content, Mapping):
        return _NONE
    for name in sorted(content, key=len, reverse=True):
        if place == name or place.startswith(f"{name}."):
            return _inside(content[name], place[len(name) + 1 :])
    return _NONE
