"""The classes and settings that a message can name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def known_classes(key: str) -> dict[str, type]:
    """Return the modules or data modules that can be named without their path."""
    if key == "model":
        from align.training.base_module import AlignModule as Base
    else:
        from align.data.data_module import PreferenceDataModule as Base  # type: ignore[assignment]
    return {c.__name__: c for c in _subclasses(Base)}


def known_options(key: str, class_path: str) -> list[str]:
    """Return the settings of a class or of the trainer, one level of dataclasses included."""
    import dataclasses
    import inspect
    import typing

    from lightning.pytorch import Trainer

    if key not in ("data", "model"):
        return ["model", "data", "trainer", *(f"trainer.{p}" for p in inspect.signature(Trainer).parameters)]
    owner = known_classes(key).get(class_path.rsplit(".", 1)[-1])
    names = []
    for base in owner.__mro__ if owner else ():
        if "__init__" in vars(base) and base.__module__.startswith("align"):
            names += [p for p in inspect.signature(base).parameters if p not in ("options", "self")]
            for name, hint in typing.get_type_hints(vars(base)["__init__"]).items():
                kinds = [hint, *typing.get_args(hint)]
                names += [
                    f"{name}.{f.name}" for k in kinds if dataclasses.is_dataclass(k) for f in dataclasses.fields(k)
                ]
    return names


def settings_of(class_path: str) -> list[str]:
    """Return the settings of a class by its path."""
    import inspect

    from align.cli.class_names import class_at

    return list(inspect.signature(class_at(class_path)).parameters)


def _subclasses(base: type[Any]) -> Iterable[type[Any]]:
    for child in base.__subclasses__():
        yield child
        yield from _subclasses(child)
