"""Settings that are null where a group of settings is expected: the parser takes them, and fails when it builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args

from jsonargparse import Namespace
from jsonargparse._parameter_resolvers import get_signature_parameters
from jsonargparse._util import import_object

from align.errors import ConfigError

OURS = "align."


def check_nulls(settings: Any, owner: Callable[..., Any] | None = None, key: str = "") -> None:
    """Raise ConfigError naming the first null that stands for a class of ours which cannot be null.

    Args:
        settings: What was parsed, before anything is built of it.
        owner: The class or function that takes these settings by name, where it is known.
        key: Where they stand on the command line.
    """
    settings = vars(settings) if isinstance(settings, Namespace) else settings
    if isinstance(settings, list | tuple):
        for one in settings:
            check_nulls(one, None, key)
    if not isinstance(settings, Mapping):
        return
    if isinstance(settings.get("class_path"), str):
        check_nulls(settings.get("init_args"), import_object(settings["class_path"]), key)
        return
    kinds = {} if owner is None else _kinds(owner)
    for name, value in settings.items():
        place, kind = f"{key}.{name}" if key else str(name), kinds.get(name)
        if value is None and kind is not None:
            raise ConfigError(f"--{place}: expected settings of {kind.__name__}, got null: leave it out for the usual")
        check_nulls(value, kind, place)


@cache
def _kinds(owner: Callable[..., Any]) -> dict[str, type]:
    """Return the class of every setting that is one of ours and has a default other than null."""
    if not owner.__module__.startswith(OURS):
        return {}
    found = get_signature_parameters(owner, "__init__" if isinstance(owner, type) else None)
    named = {p.name: (get_args(p.annotation) or (p.annotation,)) for p in found if p.default is not None}
    return {
        name: kinds[0]
        for name, kinds in named.items()
        if all(isinstance(kind, type) and kind.__module__.startswith(OURS) for kind in kinds)
    }
