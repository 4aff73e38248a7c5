"""A table over seeds: means with bootstrap intervals over them, as JSON and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import DataError, did_you_mean
from align.evaluation.run_reader import read_series
from align.evaluation.statistics import mean_interval
from align.files import atomic_write_text
from align.strict_json import json_text
from align.studies.study_file import TableSettings
from align.studies.tasks import Task

METRICS = "metrics:"


@dataclass(frozen=True)
class Figure:
    """A figure over seeds."""

    by_seed: dict[str, float]
    """What was measured; a seed whose figure is null or not finite is left out, and counted in the table."""
    seeds: int
    """How many were measured."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values, their mean, and its 95 % interval over seeds."""
        if not self.by_seed:
            return {"mean": None, "low": None, "high": None, "seeds": self.seeds, "values": {}}
        mean, low, high = mean_interval(list(self.by_seed.values()))
        return {"mean": mean, "low": low, "high": high, "seeds": self.seeds, "values": self.by_seed}

    def text(self, digits: int) -> str:
        """Return the mean, its interval, and every seed's value; what was left out is said."""
        found, values = self.as_dict(), [f"{value:.{digits}f}" for value in self.by_seed.values()]
        missing = f" ({len(values)} of {self.seeds} seeds)" if len(values) < self.seeds else ""
        if len(values) < 2:
            return f"{values[0] if values else '-'}{missing}"
        interval = f"[{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
        return f"{found['mean']:.{digits}f} {interval} ({' / '.join(values)}){missing}"


def write_table(settings: TableSettings, tasks: Sequence[Task], folder: Path) -> str:
    """Gather a table from the tasks it needs, write table.json and table.md, and return the Markdown.

    Raises DataError for a file or a figure that is not there, or is no number.
    """
    rows = {title: figures for given in settings.rows.items() for title, figures in _rows(settings, given, tasks)}
    for column in settings.columns:
        if not any(column in row for row in rows.values()):
            raise DataError(f"table: no row has {settings.columns[column]!r}, the column {column!r}")
    shown = [f"| | {' | '.join(settings.columns)} |", f"|---|{'---|' * len(settings.columns)}"]
    for title, row in rows.items():
        cells = [row[column].text(settings.digits) if column in row else "" for column in settings.columns]
        shown.append(f"| {title} | {' | '.join(cells)} |")
    content = {title: {column: figure.as_dict() for column, figure in row.items()} for title, row in rows.items()}
    atomic_write_text(folder / "table.json", json_text({"rows": content}, indent=1))
    atomic_write_text(folder / "table.md", "\n".join(shown) + "\n")
    return "\n".join(shown)


def _rows(
    settings: TableSettings, given: tuple[str, str], tasks: Sequence[Task]
) -> list[tuple[str, dict[str, Figure]]]:
    """Return the rows of a step: one for each of the values it is done under, over all seeds."""
    title, (step, _, at) = given[0], given[1].partition(":")
    by_values: dict[str, list[Task]] = {}
    for task in (one for one in tasks if one.step.name == step):
        label = ", ".join(f"{name}={value}" for name, value in list(task.values.items())[:1] if name != "seed")
        by_values.setdefault(f"{title}, {label}" if label else title, []).append(task)
    found = []
    for name, own in by_values.items():
        figures = {column: _figure(own, settings.file, at, place) for column, place in settings.columns.items()}
        found.append((name, {column: figure for column, figure in figures.items() if figure is not None}))
    return found


def _figure(tasks: Sequence[Task], file: str, at: str, place: str) -> Figure | None:
    """Return a figure of all seeds, None where none of them has it. Raises DataError where some have it."""
    found = {str(task.values.get("seed", "")): _value(task, file, at, place) for task in tasks}
    if all(value is _NONE for value in found.values()):
        return None
    if without := [seed for seed, value in found.items() if value is _NONE]:
        raise DataError(f"table: {tasks[0].step.name} has no {place!r} for seed {without[0]}, and for others it has")
    measured = {seed: float(v) for seed, v in found.items() if v is not None and math.isfinite(v)}
    return Figure(measured, len(found))


_NONE = object()


def _value(task: Task, file: str, at: str, place: str) -> Any:
    """Return a figure of one task, `_NONE` where it has none."""
    if place.startswith(METRICS):
        series = read_series(task.folder).get(place.removeprefix(METRICS))
        return series.values[-1] if series is not None and series.values else _NONE
    path = task.folder / file
    if task.step.fits and not path.exists():
        return _NONE  # a run has its metrics alone
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"table: {path}: cannot be read ({error})") from error
    value = _inside(content, at)
    if value is _NONE:
        known = list(content) if isinstance(content, Mapping) else []
        raise DataError(f"table: {path} has no {at!r}{did_you_mean(at, known)}")
    value = _inside(value, place)
    if value is not _NONE and value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DataError(f"table: {place!r} in {path} is no number")
    return value


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
