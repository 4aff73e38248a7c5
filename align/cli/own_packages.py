"""Which packages a config may name classes and functions of: ours, and those that `ALIGN_IMPORT_ALLOW` lists.

The installed program has no current folder on its import path, and none is put there: a `torch` or `yaml` in it would
take the place of the real one. Only a package that is allowed by name is looked for there.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from jsonargparse import set_parsing_settings

from align.errors import ConfigError

ALLOWED = ["align", "lightning", "pytorch_lightning", "torch.optim"]
"""Packages a config may name classes of; others are refused before they are imported."""
VARIABLE = "ALIGN_IMPORT_ALLOW"


def allow_imports() -> None:
    """Set the import policy of all parsers. Raises ConfigError for a package that is there twice, or has no name."""
    own = [name for name in _own() if not name.endswith(".py")]
    for name in own:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"{VARIABLE} names {name!r}, expected packages such as mypackage or mypackage.losses")
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=ALLOWED + own)
    tops = {name.split(".")[0] for name in own} - {name.split(".")[0] for name in ALLOWED}
    _check_single(tops, Path.cwd())
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, CurrentFolder)]
    sys.meta_path.append(CurrentFolder(tops, Path.cwd()))


def check_functions(settings: Any) -> None:
    """Raise ConfigError for a reward function of a package or file that is not allowed, before anything is imported."""
    if isinstance(settings, Namespace):
        settings = vars(settings)
    if isinstance(settings, Mapping):
        if str(settings.get("class_path", "")).rsplit(".", 1)[-1] == "FunctionRewards":
            _check_function(settings.get("init_args"))
        for value in settings.values():
            check_functions(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            check_functions(value)


def _check_function(given: Any) -> None:
    told = str(given.get("function") or "") if given is not None else ""
    place = told.rpartition(":")[0]
    if place.endswith(".py"):
        files = [os.path.realpath(os.path.expanduser(name)) for name in _own() if name.endswith(".py")]
        allowed, trusted = os.path.realpath(os.path.expanduser(place)) in files, place
    else:
        packages, trusted = ["align", *_own()], place.split(".")[0]
        allowed = any(place == name or place.startswith(f"{name}.") for name in packages)
    if place and not allowed:
        raise ConfigError(
            f"function {told!r} is outside the packages and files a config may name: if you trust {trusted}, put "
            f"{VARIABLE}={trusted} in front of the command"
        )


def _own() -> list[str]:
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


class CurrentFolder(MetaPathFinder):
    """Finds allowed packages in one folder, after all others have been asked."""

    def __init__(self, packages: set[str], folder: Path) -> None:
        self.packages, self.folder = packages, folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of an allowed package, None for any other."""
        return PathFinder.find_spec(fullname, [str(self.folder)]) if fullname in self.packages else None


def _check_single(packages: set[str], folder: Path) -> None:
    """Raise ConfigError for a package in the folder that an installed one of the same name would stand in for."""
    for name in sorted(packages - set(sys.builtin_module_names)):
        here, installed = PathFinder.find_spec(name, [str(folder)]), PathFinder.find_spec(name)
        if here and installed and here.origin and _place(here) != _place(installed):
            raise ConfigError(
                f"{VARIABLE} names {name!r}, which is in the current folder ({_place(here)}) and installed "
                f"({_place(installed)}): rename yours"
            )


def _place(spec: ModuleSpec) -> str:
    return os.path.realpath(spec.origin or next(iter(spec.submodule_search_locations or [""])))
