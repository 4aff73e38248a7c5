"""Keeps keys out of settings: what is typed there is written to config.yaml, model cards and checkpoints."""

from __future__ import annotations

import base64
import binascii
import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from align.cli.secret_patterns import key_in
from align.errors import ConfigError
from align.sampling.service_key import KeySpellings, unescaped

SHORTEST = 8
SHORTEST_FORM = 12
"""Characters; in a shorter text there is no key that has a form."""
DEPTH = 4
_NAMES = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS)$")
_REFERENCE = re.compile(r"\$\{oc\.(env|decode)[^}]*\}")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){12,}")


def check_secrets(text: str, place: str) -> None:
    """Raise ConfigError for a text that holds a key, plain or encoded, naming the place and never the key."""
    advice = "settings are written to disk: leave it out, programs read it from its environment variable"
    for name, value in _secrets():
        if value in text or KeySpellings(value).found(text):
            raise ConfigError(f"{place} holds the value of environment variable {name}: {advice}")
    if found := _REFERENCE.search(text):
        raise ConfigError(f"{place}: {found.group()} would stay as it is, it is not filled in: {advice}")
    if len(text) < SHORTEST_FORM:
        return
    for view in _views(text):
        if kind := key_in(view):
            raise ConfigError(f"{place} holds what looks like {kind}: {advice}")


def check_secret_settings(settings: Any, name: str = "") -> None:
    """Check what all sources of settings came to, by dotted name. Raises ConfigError for one that holds a key."""
    if isinstance(settings, Namespace):
        settings = vars(settings)
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            check_secret_settings(value, f"{name}.{key}" if name else str(key))
    elif isinstance(settings, list | tuple):
        for value in settings:
            check_secret_settings(value, name)
    elif isinstance(settings, str):
        check_secrets(settings, f"--{name}")
        check_secrets(f"{name.rsplit('.', 1)[-1]}: {settings}", f"--{name}")


def check_words(words: list[str]) -> None:
    """Check a command line, each option with its value. Raises ConfigError for one that holds a key."""
    for place, word in enumerate(words):
        check_secrets(word, f"argument {place} of the command line")
        if place and words[place - 1].startswith("--") and "=" not in words[place - 1]:
            check_secrets(f"{words[place - 1]}={word}", f"argument {place} of the command line")


def _views(text: str, depth: int = DEPTH) -> Iterator[str]:
    """Return a text and what can be decoded in it, and in that again."""
    yield text
    if depth == 0:
        return
    inner = {unquote(text), unescaped(text), *map(_plain, _decoded(text))} - {text, ""}
    for view in inner:
        yield from _views(view, depth - 1)


def _decoded(text: str) -> Iterator[bytes]:
    for found in _HEX.finditer(text):
        yield bytes.fromhex(found.group())
    for found in _ENCODED.finditer(text):
        run = found.group().rstrip("=")
        for piece in {run, *re.split(r"[/_-]", run)}:
            for skipped in range(4 if len(piece) >= 16 else 0):
                whole = piece[skipped:].replace("-", "+").replace("_", "/")
                whole = whole[: len(whole) - (len(whole) % 4 == 1)]
                try:
                    yield base64.b64decode(whole + "=" * (-len(whole) % 4))
                except binascii.Error:
                    continue


def _plain(data: bytes) -> str:
    """Return bytes as text where that is what they are, else nothing."""
    text = data.decode("ascii") if data.isascii() else ""
    return text if len(text) >= SHORTEST_FORM and not re.search(r"[^\x20-\x7e\r\n\t]", text) else ""


def _secrets() -> Iterator[tuple[str, str]]:
    return ((n, v) for n, v in os.environ.items() if _NAMES.search(n.upper()) and len(v) >= SHORTEST)
