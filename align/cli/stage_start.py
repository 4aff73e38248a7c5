"""How a run is given the model that it starts from."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

from align.cli.class_names import class_at
from align.cli.included_configs import configs_of
from align.errors import ConfigError
from align.models.folder_checks import ADAPTER_CONFIG


def start_words(words: Sequence[str], before: Path) -> list[str]:
    """Return the words by which a fit starts from the model of another run's folder.

    They are `--model.stage1` where the method has a first stage and the folder holds adapters, else
    `--model.backbone.path`. Raises ConfigError where the folder holds no model.
    """
    model = before / "model"
    if not model.is_dir():
        raise ConfigError(f"{model} is missing, so there is nothing to start from")
    adapters = any(model.rglob(ADAPTER_CONFIG))
    return ["--model.stage1" if adapters and _takes_stage(words) else "--model.backbone.path", str(model)]


def _takes_stage(words: Sequence[str]) -> bool:
    """Tell whether the method that the files of a command name has a first stage of its own."""
    named = [(content.get("model") or {}).get("class_path") for _, content in configs_of(words) if content]
    method = class_at(str(next((path for path in reversed(named) if path), None)))
    return method is not None and "stage1" in inspect.signature(method).parameters
