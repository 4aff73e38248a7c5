"""`align annotate serve --scale ... --fields FILE --labeller FILE`: what raters are asked beside the choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from align.annotation.form import RATING, Field, RatingScale, field_of
from align.annotation.labellers import question_of
from align.cli.shipped_configs import config_place
from align.cli.yaml_check import checked_value, read_settings
from align.errors import ConfigError


def form_of(scale: RatingScale | None, path: str | None) -> tuple[Field, ...]:
    """Return the scale's question and those of the file, whose own rating a given scale replaces.

    Raises ConfigError for a file that has none.
    """
    rated = () if scale is None else (scale.field(),)
    read = () if path is None else _read("fields", path, field_of)
    return rated + tuple(field for field in read if not (rated and field.name == RATING))


def labeller_form(path: str | None) -> tuple[Field, ...]:
    """Return what every rater is asked about themselves; nothing without a file. Raises ConfigError."""
    return () if path is None else _read("labeller", path, question_of)


def _read(option: str, path: str, made: Callable[[str, Any], Field]) -> tuple[Field, ...]:
    place = f"{option} {path}"
    rows = checked_value(read_settings(Path(config_place(path)).expanduser(), place), place)
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{place}: expected a list of fields, each with a name, and question, values and required")
    found = tuple(made(f"{place}, field {number}", row) for number, row in enumerate(rows, 1))
    names = [field.name for field in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{place}: {twice[0]!r} stands twice")
    return found
