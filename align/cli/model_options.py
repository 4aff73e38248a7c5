"""`--models.NAME.SETTING VALUE`: the words of one model gathered into one value, which the parser cannot do itself.

The parser takes `--models.NAME DIR`, and settings of named models in a YAML file or as one JSON value. Of a second
dotted setting it forgets the first, so the words are put together before it reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from align.cli.evaluation_tables import name as short_name
from align.cli.yaml_check import checked_value
from align.errors import ConfigError, did_you_mean, shorten

OPTION = "--models"


def gathered(words: Sequence[str], kind: Any) -> list[str]:
    """Return a command in which the settings of named models are one value of `--models`.

    NAME is a name of its own, or that of a folder in a list of models: its path, or its short name. Raises ConfigError
    for a setting a model does not have.
    """
    rest, given = _split(words)
    if not any(key for key, _ in given):
        return list(words)
    known = [field.name for field in fields(kind)]
    needs_path = any(field.name == "path" and field.default is MISSING for field in fields(kind))
    models: dict[str, dict[str, Any]] = {}
    for key, value in given:
        if not key:
            models |= _whole(value)
            continue
        name, _, setting = key.rpartition(".")
        if not name or setting not in known:
            outer = name.rpartition(".")[0] if name.rpartition(".")[2] == "instructions" else name
            if _place(outer, models) is not None:
                raise ConfigError(f"{OPTION}.{key}: a model has no setting {setting!r}{did_you_mean(setting, known)}")
            name, setting = key, "path"
        models.setdefault(_place(name, models) or name, {})[setting] = _value(setting, value)
    for name, settings in models.items():
        if "path" not in settings and needs_path:
            raise ConfigError(f"{OPTION}.{name}: no folder of that name: give {OPTION}.{name} DIR")
        _check_choices(f"{OPTION}.{name}", settings, kind)
    return [*rest, OPTION, json.dumps(models)]


def _check_choices(place: str, settings: dict[str, Any], kind: Any) -> None:
    """Raise ConfigError for a word that is none of a setting's: the parser would take all models for one path."""
    for setting, hint in get_type_hints(kind).items():
        kinds = (hint, *get_args(hint))
        words = [word for one in kinds if get_origin(one) is Literal for word in get_args(one)]
        if words and settings.get(setting) is not None and settings[setting] not in words:
            expected = " or ".join(map(str, words))
            raise ConfigError(f"{place}.{setting}: expected {expected}, got {shorten(settings[setting])!r}")


def _split(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the other words, and what stands after `--models.` with its value."""
    rest: list[str] = []
    given: list[tuple[str, str]] = []
    todo = list(words)
    while todo:
        word = todo.pop(0)
        option, equals, value = word.partition("=")
        if option != OPTION and not option.startswith(f"{OPTION}."):
            rest.append(word)
        elif equals or (todo and not todo[0].startswith("--")):
            given.append((option[len(OPTION) + 1 :], value if equals else todo.pop(0)))
        else:
            given.append((option[len(OPTION) + 1 :], "true"))  # a flag that stands alone is set
    return rest, given


def _whole(value: str) -> dict[str, dict[str, Any]]:
    """Return models that stand in one value: a list of paths, or settings by name."""
    found = checked_value(value, OPTION)
    if isinstance(found, dict):
        return {str(n): m if isinstance(m, dict) else {"path": m} for n, m in found.items()}
    return {str(path): {"path": str(path)} for path in (found if isinstance(found, list) else [found])}


def _place(name: str, models: dict[str, dict[str, Any]]) -> str | None:
    """Return the name of a model that is there already."""
    if name in models:
        return name
    short = [path for path in models if short_name(path) == name]
    if len(short) > 1:
        raise ConfigError(f"{OPTION}.{name}: {' and '.join(short)} have that name: use the whole path")
    return short[0] if short else None


def _value(setting: str, value: str) -> Any:
    """Return a value; what is text stays text, whatever it looks like."""
    texts = ("path", "direction", "ratings", "under", "system", "steer", "base_url", "model")
    return value if setting in texts else checked_value(value, f"{OPTION}.{setting}")
