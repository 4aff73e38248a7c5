"""`align annotate serve --scale ... --fields FILE`: what raters are asked of every response."""

from __future__ import annotations

from pathlib import Path

from align.annotation.form import Field, Scale, field_of
from align.cli.yaml_check import checked_value, read_settings
from align.errors import ConfigError


def form_of(scale: Scale | None, path: str | None) -> tuple[Field, ...]:
    """Return the scale's question and those of the file. Raises ConfigError for a file that has none."""
    rated = () if scale is None else (scale.field(),)
    return rated + (() if path is None else _read(path))


def _read(path: str) -> tuple[Field, ...]:
    place = f"fields {path}"
    rows = checked_value(read_settings(Path(path).expanduser(), place), place)
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{place}: expected a list of fields, each with a name, and question, values and required")
    found = tuple(field_of(f"{place}, field {number}", row) for number, row in enumerate(rows, 1))
    names = [field.name for field in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{place}: {twice[0]!r} stands twice")
    return found
