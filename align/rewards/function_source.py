"""Where the function that settings name is written; nothing of it is imported to find out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from align.errors import ConfigError
from align.source_code import own_hash

FORM = "expected my_rewards:accuracy (module:function) or path/my_rewards.py:accuracy"


@dataclass(frozen=True)
class FunctionSource:
    """A function, and the file that defines it."""

    told: str
    """What the settings say."""
    name: str
    """Of the function."""
    path: Path
    module: str = ""
    """What it is imported as; empty for a file, which is run as it is."""
    folder: Path | None = None
    """Where imports are looked for after all other places: beside the file, or where the package lies."""

    @classmethod
    def find(cls, told: str) -> FunctionSource:
        """Return the place of `module:function` or `file.py:function`. Raises ConfigError where there is none."""
        place, _, name = told.rpartition(":")
        if not place or not name.isidentifier():
            raise ConfigError(f"function {told!r}: {FORM}")
        if place.endswith(".py"):
            path = Path(place).expanduser().resolve()
            if not path.is_file():
                raise ConfigError(f"function {told!r}: no file {path}")
            return cls(told, name, path, folder=path.parent)
        if not all(part.isidentifier() for part in place.split(".")):
            raise ConfigError(f"function {told!r}: {FORM}")
        path = _module_file(told, place)
        top = path.parents[place.count(".") + (path.name == "__init__.py")]
        return cls(told, name, path, module=place, folder=top)

    @property
    def hash(self) -> str:
        """Return a hash of the file and of the user's own files it imports. Raises ConfigError for one that is gone."""
        try:
            return own_hash(self.path, self.folder)
        except OSError as error:
            raise ConfigError(f"function {self.told!r}: {self.path} cannot be read ({error})") from error


def _module_file(told: str, module: str) -> Path:
    """Return the file of a module, found as an import would without running anything."""
    search: list[str] | None = None
    spec: ModuleSpec | None = None
    for end in range(1, len(parts := module.split(".")) + 1):
        name = ".".join(parts[:end])
        spec = _spec(name, search)
        if spec is None:
            raise ConfigError(
                f"function {told!r}: no module {name}: give its file (path/{parts[-1]}.py:...), or add its folder to "
                "PYTHONPATH"
            )
        search = list(spec.submodule_search_locations or [])
    path = Path(spec.origin or "") if spec else Path()
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"function {told!r}: {module} is no Python source, expected a .py file")
    return path.resolve()


def _spec(name: str, search: list[str] | None) -> ModuleSpec | None:
    """Return where one module is, by the finders that this program has."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and (spec := find(name, search)) is not None:
            return spec  # type: ignore[no-any-return]
    return None
