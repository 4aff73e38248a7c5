"""The models of a table by name, each asked in its own way or in another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.errors import ConfigError
from align.evaluation.model_answers import is_answer_file
from align.models.asked import PLAIN, ModelAsking, asking_of
from align.records.asking import Ask, AskedModel

Models = dict[str, str | AskedModel] | list[str]
"""Models of a verb: paths, or by a name each, with what they are asked."""


def paths_of(models: Models) -> list[tuple[str, Ask]]:
    """Return the path of every model and how it is asked."""
    given = list(models.values()) if isinstance(models, dict) else models
    return [m.parts if isinstance(m, AskedModel) else (m, Ask()) for m in given]


class AskedModels:
    """Paths and askings of models by name; one folder may stand under several names, asked in several ways."""

    def __init__(self, models: Models) -> None:
        """Read how every folder is asked and print it. Raises ConfigError or ModelError for what it cannot be asked."""
        given = dict(zip(models, paths_of(models), strict=True))
        self._paths = {name: path for name, (path, _) in given.items()}
        self._askings: dict[str, ModelAsking] = {}
        for name, (path, ask) in given.items():
            self._add(name, path, ask)

    def _add(self, name: str, path: str, ask: Ask) -> ModelAsking:
        answers = ask == Ask() and is_answer_file(path)
        if answers and not Path(path).is_file():
            raise ConfigError(f"models {name}: {path}: no such file")
        try:
            found = PLAIN if answers else asking_of(path, ask)
        except ConfigError as error:
            raise type(error)(f"models {name}: {error}") from error
        found.tell(name)
        self._askings[name] = found
        return found

    @property
    def names(self) -> list[str]:
        """Return the names in their order."""
        return list(self._paths)

    def path(self, name: str) -> str:
        """Return where a model is; a name that is none of them is a path itself."""
        return self._paths.get(name, name)

    def asking(self, name: str) -> ModelAsking:
        """Return how a model is asked; one that is none of them as its folder says."""
        return self._askings[name] if name in self._askings else self._add(name, name, Ask())

    def as_dict(self) -> dict[str, Any]:
        """Return paths and what is asked, for a file of results."""
        return {name: {"path": self.path(name), **asking.as_dict()} for name, asking in self._askings.items()}

    @property
    def told(self) -> dict[str, str]:
        """Return what every model is asked in a few words, without those asked with the prompt alone."""
        return {name: asking.told for name, asking in self._askings.items() if asking.told}
