"""The file of a study: its steps, the values they share, and the smaller scales it can be run at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import Any

from align.errors import ConfigError, did_you_mean, shorten
from align.studies.table_settings import TableSettings, mapping, table_of

RESERVED = ("here", "seed", "study")
"""Names a command may use that no step and no value has: its own folder, its seed, the folder of the file."""
KEYS = ("out", "seeds", "values", "scales", "steps")


@dataclass(frozen=True)
class StudyStep:
    """One step as it is written: a command of `align` or of Python, or a table."""

    name: str
    command: str = ""
    each: tuple[dict[str, Any], ...] = ()
    """Values under which it is done, once for each; the first value of each names what it makes."""
    start: str = ""
    """The step whose model a fit starts from, as `align run` gives it."""
    folder: str = ""
    """Where it writes, if not in its own folder below that of the study."""
    table: TableSettings | None = None

    @property
    def fits(self) -> bool:
        """Tell whether this is a run."""
        return self.command.split()[:1] == ["fit"]

    @property
    def names_of_values(self) -> set[str]:
        """Return the names of the values it is done under."""
        return {name for one in self.each for name in one}

    @property
    def names(self) -> set[str]:
        """Return the names its command uses."""
        return set(Template(self.command).get_identifiers())


@dataclass(frozen=True)
class Study:
    """Steps over seeds."""

    out: str
    steps: dict[str, StudyStep]
    seeds: tuple[int, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    """What commands name, as in `${size}`."""
    scales: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Other seeds, values, and values of `each` step, by name."""
    place: Path = Path()
    """The folder of the file."""

    def at(self, scale: str | None) -> Study:
        """Return the study at one of its scales, in a folder of its own. Raises ConfigError for an unknown one."""
        if scale is None:
            return self
        if scale not in self.scales:
            known = ", ".join(self.scales) or "none"
            raise ConfigError(f"scale {scale!r}: the study has {known}{did_you_mean(scale, self.scales)}")
        found = self.scales[scale]
        study = self.given(found.get("seeds"), found.get("values", {}))
        steps = dict(study.steps)
        for name, each in found.get("each", {}).items():
            if name not in steps or not steps[name].each:
                raise ConfigError(f"scales.{scale}.each.{name}: no step of that name has `each`")
            steps[name] = replace(steps[name], each=_each(each, f"scales.{scale}.each.{name}"))
        return replace(study, out=f"{self.out}-{scale}", steps=steps)

    def given(self, seeds: Any, values: Mapping[str, Any]) -> Study:
        """Return the study with other seeds, null for its own, and values. Raises ConfigError for unknown values."""
        if unknown := [name for name in values if name not in self.values]:
            guess = did_you_mean(unknown[0], self.values)
            raise ConfigError(f"values.{unknown[0]}: the study has {', '.join(self.values) or 'no values'}{guess}")
        own = self.seeds if seeds is None else _seeds(seeds)
        return replace(self, seeds=own, values={**self.values, **values})


def read_study(content: Any, place: Path) -> Study:
    """Return the study that a file says. Raises ConfigError naming what is missing, unknown or contradictory.

    Args:
        content: What the YAML file holds.
        place: The file.
    """
    found = mapping(content, str(place), KEYS)
    out = found.get("out")
    if not isinstance(out, str) or not out:
        raise ConfigError(f"{place}: out must name the folder of the study, got {shorten(out, 40)}")
    steps = {name: _step(name, given) for name, given in mapping(found.get("steps"), f"{place}: steps").items()}
    values = mapping(found.get("values", {}), f"{place}: values")
    scales = mapping(found.get("scales", {}), f"{place}: scales")
    for name, scale in scales.items():
        mapping(scale, f"{place}: scales.{name}", ("seeds", "values", "each"))
    study = Study(out, steps, _seeds(found.get("seeds", [])), values, scales, place.parent)
    _check_names(study)
    for scale in scales:
        study.at(scale)
    return study


def _seeds(given: Any) -> tuple[int, ...]:
    good = isinstance(given, list) and all(isinstance(seed, int) and seed >= 0 for seed in given)
    if not good or len(set(given)) < len(given):
        raise ConfigError(f"seeds: expected different whole numbers, as in [0, 1, 2], got {shorten(given, 60)}")
    return tuple(given)


def _step(name: Any, given: Any) -> StudyStep:
    where = f"steps.{name}"
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"{where}: a step is named by letters, digits and _, so that commands can name it")
    if isinstance(given, str):
        return StudyStep(name, given)
    found = mapping(given, where, ("command", "each", "from", "folder", "table"))
    table = None if found.get("table") is None else table_of(found["table"], f"{where}.table")
    if (table is None) == ("command" not in found):
        raise ConfigError(f"{where}: expected a command, or a table")
    each = _each(found.get("each", []), f"{where}.each")
    texts = {key: found.get(key, "") for key in ("command", "from", "folder")}
    if wrong := [key for key, text in texts.items() if not isinstance(text, str)]:
        raise ConfigError(f"{where}.{wrong[0]}: expected a text, got {shorten(texts[wrong[0]], 60)}")
    step = StudyStep(name, texts["command"], each, texts["from"], texts["folder"], table)
    if step.start and not step.fits:
        raise ConfigError(f"{where}.from: only a fit starts from a model")
    return step


def _each(given: Any, where: str) -> tuple[dict[str, Any], ...]:
    if not isinstance(given, list) or not all(isinstance(one, dict) and one for one in given):
        raise ConfigError(f"{where}: expected a list of values by name, as in [{{n: 2}}, {{n: 3}}]")
    if len({tuple(one) for one in given}) > 1 or len({str(next(iter(one.values()))) for one in given}) < len(given):
        raise ConfigError(f"{where}: expected the same names in each, and the first value to differ")
    return tuple(given)


def _check_names(study: Study) -> None:
    taken = [*study.values, *RESERVED]
    for step in study.steps.values():
        own = [name for one in step.each[:1] for name in one]
        if step.name in taken or (double := [name for name in own if name in (*taken, *study.steps)]):
            name = step.name if step.name in taken else double[0]
            raise ConfigError(f"steps.{step.name}: {name!r} names something else too")
        if not step.command.strip() and step.table is None:
            raise ConfigError(f"steps.{step.name}.command: is empty")
