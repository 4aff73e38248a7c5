"""A path where a setting names a class, a URL where it has settings: mistakes the parser's words do not lead out of."""

from __future__ import annotations

import os
from collections.abc import Sequence

from align.errors import ConfigError, shorten

CLASSES = {"--data": "PreferenceFileDataModule", "--scorer": "RewardFolder"}
"""Settings that name a class, and one that has a path."""
TRAINING = ("fit", "validate", "test", "predict", "check", "run")
SETTINGS_FILES = (".yaml", ".yml", ".json")
"""Files that may hold a class with its settings."""


def check_classes(words: Sequence[str]) -> None:
    """Raise ConfigError for data, a reward model or a server in the place of what reads or asks them."""
    by_class = words[0] in TRAINING or list(words[:2]) == ["benchmark", "preferences"]
    for place, word in enumerate(words):
        option, given, value = word.partition("=")
        value = value if given else "".join(words[place + 1 : place + 2])
        told = shorten(value, 200)
        if option == "--server" and value.startswith("http"):
            raise ConfigError(f"--server {told}: expected settings: --server.base_url {told} --server.model NAME")
        if option in CLASSES and _is_path(value) and (by_class or option != "--data"):
            raise ConfigError(
                f"{option} {told}: expected a class: {option} {CLASSES[option]} {option}.path {told}, or another"
            )


def _is_path(value: str) -> bool:
    return not value.endswith((*SETTINGS_FILES, "DataModule")) and os.path.exists(os.path.expanduser(value))
