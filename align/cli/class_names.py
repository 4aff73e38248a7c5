"""Short names of classes: every one that is shipped has one, and an unknown one is told which come nearest."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

from jsonargparse import _typehints
from jsonargparse._util import import_object

OURS = ("align", "callbacks")
HOMES = {"LightningModule": "align.modules", "LightningDataModule": "align.data", "Callback": "callbacks"}
"""Packages with our subclasses of Lightning's types; those of a type of our own are in its own package."""


def subclass_paths(
    original: Callable[..., list[str]], cls: Any, include_abstract: bool, closed_types: bool
) -> list[str]:
    """Return the paths of all subclasses of a type, whether they had been imported or not."""
    for kind in _typehints.get_class_types(cls, closed_types=closed_types):
        own = ".".join(kind.__module__.split(".")[:2])
        home = HOMES.get(kind.__name__, own if own.startswith("align.") else "")
        if home:
            import_all(home)
    return original(cls, include_abstract, closed_types)


@cache
def import_all(package: str) -> None:
    """Import every module of a package of ours, so that its classes are known."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)


def resolve(original: Callable[[Any, str], str], cls: Any, name: str) -> str:
    """Return the class path behind a name; where Lightning has one of that name too, ours.

    Raises ValueError naming the classes of the type where there is none.
    """
    if "." in name and (name.split(".", maxsplit=1)[0] not in OURS or _is_there(name)):
        return name
    kinds = cls if isinstance(cls, tuple) else (cls,)
    paths = [path for kind in kinds for path in _typehints.get_all_subclass_paths(kind)]
    ours = [path for path in paths if path.rsplit(".", 1)[1] == name and path.split(".")[0] in OURS]
    found = ours[0] if len(ours) == 1 else original(cls, name)
    if "." in found and found != name:
        return found
    known = {path.rsplit(".", 1)[1] for path in paths}
    known = known - {kind.__name__ for kind in kinds} or known
    raise ValueError(f"no class named {name!r} among {', '.join(sorted(known))}")


def _is_there(path: str) -> bool:
    try:
        import_object(path)
    except (ImportError, AttributeError):
        return False
    return True
