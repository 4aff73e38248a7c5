"""Every type of the packages whose classes a config may name, found in signatures, and values to fill classes with."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import lightning as L

PACKAGES = ("align",)


def subclasses(kind: type) -> list[type]:
    """Return every subclass of a type that stands in a file of ours."""
    found = [child for sub in kind.__subclasses__() for child in (sub, *subclasses(sub))]
    return [child for child in dict.fromkeys(found) if is_ours(child)]


def is_ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] in PACKAGES


def concrete(kind: type) -> list[type]:
    """Return the classes of a type that can be built."""
    found = [c for c in (kind, *subclasses(kind)) if is_ours(c) and not _has_abstract_parts(c)]
    return [c for c in found if not c.__name__.startswith("_")]


@cache
def _has_abstract_parts(kind: type) -> bool:
    return any(getattr(inspect.getattr_static(kind, n, None), "__isabstractmethod__", False) for n in dir(kind))


@cache
def signature_hints(kind: Any) -> dict[str, Any]:
    """Return the types of what a class or function takes, those its bases pass on included."""
    found: dict[str, Any] = {}
    for base in kind.__mro__ if inspect.isclass(kind) else (kind,):
        own = vars(base).get("__init__") if inspect.isclass(base) else base
        if own is not None and getattr(own, "__module__", "").split(".")[0] in PACKAGES:
            found |= {name: hint for name, hint in typing.get_type_hints(own).items() if name not in {"return", *found}}
    return found


def classes_in(hint: Any) -> Iterator[type]:
    if inspect.isclass(hint) and not typing.get_args(hint):
        yield hint
    for inner in typing.get_args(hint):
        if not isinstance(inner, str | int):
            yield from classes_in(inner)


def pluggable_types() -> list[type]:
    """Return every type with several classes that stands in the signature of a module, data module, callback or verb."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    todo: list[Any] = [c for base in (L.LightningModule, L.LightningDataModule, L.Callback) for c in subclasses(base)]
    for module in pkgutil.iter_modules(importlib.import_module("align.cli").__path__, "align.cli."):
        verb = vars(importlib.import_module(module.name)).get("VERB")
        todo += [] if verb is None else [verb.function]
    found, seen = dict.fromkeys([L.LightningModule, L.LightningDataModule, L.Callback]), set()
    while todo:
        owner = todo.pop()
        if owner not in seen:
            seen.add(owner)
            for kind in (k for hint in signature_hints(owner).values() for k in classes_in(hint) if is_ours(k)):
                if subclasses(kind) and (inspect.isabstract(kind) or not dataclasses.is_dataclass(kind)):
                    found[kind] = None
                todo += [kind, *subclasses(kind)]
    return list(found)


def required(kind: type) -> dict[str, Any]:
    """Return values for what a class cannot be built without."""
    parameters = inspect.signature(kind).parameters.values()
    types = signature_hints(kind)
    open_ones = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return {p.name: sample(types[p.name]) for p in open_ones}


def sample(hint: Any) -> Any:
    """Return any value of a type, as YAML gives it."""
    origin = typing.get_origin(hint) or hint
    simple = {int: 1, float: 0.5, str: "x", bool: True}
    if not inspect.isclass(origin):
        return sample(typing.get_args(hint)[0])
    if origin in simple:
        return simple[origin]
    if issubclass(origin, tuple):
        return [sample(inner) for inner in typing.get_args(hint)]
    if issubclass(origin, Mapping | Sequence):
        return {} if issubclass(origin, Mapping) else []
    if dataclasses.is_dataclass(hint) and not inspect.isabstract(hint):
        return required(hint)
    first = concrete(hint)[0]
    return {"class_path": f"{first.__module__}.{first.__qualname__}", "init_args": required(first)}


def changed(value: Any) -> Any:
    """Return another value of the type of a default, None where there is no telling."""
    if isinstance(value, bool):
        return not value
    return value + 0.25 if isinstance(value, float) else value + 3 if isinstance(value, int) else None
