"""Keeps keys out of settings: what is typed there is written to config.yaml, model cards and checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from align.errors import ConfigError

SHORTEST = 8
_NAMES = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS)$")
_KEYS = re.compile(r"\b(sk-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{20,}|ghp_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})\b")
_REFERENCE = re.compile(r"\$\{oc\.(env|decode)[^}]*\}")


def check_secrets(text: str, place: str) -> None:
    """Raise ConfigError for a text that holds a key, naming the place and never the key."""
    advice = "settings are written to disk: leave it out, programs read it from its environment variable"
    for name, value in _secrets():
        if value in text:
            raise ConfigError(f"{place} holds the value of environment variable {name}: {advice}")
    if _KEYS.search(text):
        raise ConfigError(f"{place} holds what looks like a secret key: {advice}")
    if found := _REFERENCE.search(text):
        raise ConfigError(f"{place}: {found.group()} would stay as it is, it is not filled in: {advice}")


def _secrets() -> Iterator[tuple[str, str]]:
    return ((n, v) for n, v in os.environ.items() if _NAMES.search(n.upper()) and len(v) >= SHORTEST)
