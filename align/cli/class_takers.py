"""Who takes a class that was named in the wrong place."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import lightning as L

from align.cli.class_names import HOMES, class_at, import_all


def takers(name: str) -> list[str]:
    """Return the modules, data modules and callbacks of ours that have a setting for a class, by its path or name."""
    for home in HOMES.values():
        import_all(home)
    bases = (L.LightningModule, L.LightningDataModule, L.Callback)
    owners = [kind for base in bases for kind in _subclasses(base) if kind.__module__.startswith("align.")]
    settings = {owner: tuple(_setting_kinds(owner)) for owner in owners}
    at = class_at(name) if "." in name else None
    asked = [at] if inspect.isclass(at) else [k for wanted in settings.values() for k in _named(name, wanted)]
    return sorted({o.__name__ for o, kinds in settings.items() if any(issubclass(k, kinds) for k in asked)})


def _subclasses(kind: type) -> Iterator[type]:
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _named(name: str, kinds: tuple[type, ...]) -> list[type]:
    return [k for wanted in kinds for k in (wanted, *_subclasses(wanted)) if k.__name__ == name]


def _setting_kinds(owner: type) -> Iterator[type]:
    """Yield our classes in the signature of a class."""
    own = vars(owner).get("__init__")
    todo = list(typing.get_type_hints(own).values()) if own is not None else []
    while todo:
        hint: Any = todo.pop()
        todo += [inner for inner in typing.get_args(hint) if not isinstance(inner, str | int)]
        if inspect.isclass(hint) and hint.__module__.startswith("align."):
            yield hint
