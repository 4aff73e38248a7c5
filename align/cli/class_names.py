"""Short names of classes: every one that is shipped has one, and an unknown one is told which come nearest."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from jsonargparse import _typehints
from jsonargparse._common import is_subclass
from jsonargparse._util import import_object

from align.cli.renamed import FORMER_PACKAGES, RENAMED

HOMES = {"LightningModule": "align.modules", "LightningDataModule": "align.data", "Callback": "align.callbacks"}
"""Packages with our subclasses of Lightning's types; those of a type of our own are in its own package."""
ELSEWHERE = {"align.rewards": "align.judges"}
"""Packages whose types have subclasses in another one too: judges are scorers."""


def subclass_paths(
    original: Callable[..., list[str]], cls: Any, include_abstract: bool, closed_types: bool
) -> list[str]:
    """Return the paths of all subclasses of a type, whether they had been imported or not.

    Lightning's types have no metaclass that would tell bases of ours from what can be built; here they are told apart.
    """
    for kind in _typehints.get_class_types(cls, closed_types=closed_types):
        own = ".".join(kind.__module__.split(".")[:2])
        home = HOMES.get(kind.__name__, own if own.startswith("align.") else "")
        for package in filter(None, (home, ELSEWHERE.get(home))):
            import_all(package)
    found = original(cls, include_abstract, closed_types)
    return [path for path in found if include_abstract or not _is_base(class_at(path))]


@cache
def _is_base(kind: Any) -> bool:
    """Return whether a class leaves methods to its subclasses; one that cannot be named (None) is no better."""
    if kind is None:
        return True
    return any(getattr(inspect.getattr_static(kind, n, None), "__isabstractmethod__", False) for n in dir(kind))


@cache
def import_all(package: str) -> None:
    """Import every module of a package of ours, so that its classes are known."""
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)


def resolve(original: Callable[[Any, str], str], cls: Any, name: str) -> str:
    """Return the class path behind a name; where Lightning has one of that name too, ours.

    Raises ValueError naming the classes of the type where there is none, or where a path leads to another kind, and
    the present name of a class that had another.
    """
    kinds = cls if isinstance(cls, tuple) else (cls,)
    there = class_at(name) if "." in name else None
    wrong = inspect.isclass(there) and all(map(inspect.isclass, kinds)) and not _fits(there, kinds)
    if "." in name and not wrong and (there is not None or not name.startswith(FORMER_PACKAGES)):
        return name
    paths = [path for kind in kinds for path in _typehints.get_all_subclass_paths(kind)]
    if there is None and (present := present_path(name, paths)):
        raise ValueError(f"{name!r} is now {present}")
    ours = [path for path in paths if path.rsplit(".", 1)[1] == name and path.startswith("align.")]
    found = ours[0] if len(ours) == 1 else original(cls, name)
    if "." in found and found != name:
        return found
    known = {path.rsplit(".", 1)[1] for path in paths}
    known = known - {kind.__name__ for kind in kinds} or known
    if wrong:
        raise ValueError(
            f"{name!r} is no {' or '.join(kind.__name__ for kind in kinds)} among {', '.join(sorted(known))}"
        )
    raise ValueError(f"no class named {name!r} among {', '.join(sorted(known))}")


def present_path(name: str, paths: Sequence[str]) -> str | None:
    """Return where a class of ours is now that is not where a name or path says, None where there is none."""
    last = name.rsplit(".", 1)[-1]
    called = RENAMED.get(last, last)
    if called == last and "." not in name:
        return None
    return next((path for path in paths if path.startswith("align.") and path.rsplit(".", 1)[1] == called), None)


def class_at(path: str) -> Any:
    """Return what a path leads to, None where that is nothing or may not be imported."""
    try:
        return import_object(path)
    except (ImportError, AttributeError, ValueError):
        return None


def _fits(kind: Any, kinds: tuple[type, ...]) -> bool:
    return any(is_subclass(kind, wanted) or _typehints.is_protocol(wanted) for wanted in kinds) and not _is_base(kind)
