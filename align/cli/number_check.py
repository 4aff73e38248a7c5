"""Numbers of all settings: none is too large for 64 bits, and none is NaN, which would pass every comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import Namespace

from align.errors import ConfigError

LARGEST = 2**63 - 1
_INSIDE = {"init_args", "dict_kwargs"}
"""Parts of a key that the command line leaves out."""


def check_numbers(settings: Any) -> None:
    """Raise ConfigError naming the key of the first number that cannot be meant."""
    for key, value in _values(settings, ()):
        if isinstance(value, int) and abs(value) > LARGEST:
            digits = len(f"{value:.0e}") if abs(value) < 10**308 else 0
            size = f"about {value:.0e}" if digits else "more than 308 digits"
            raise ConfigError(f"--{key}: expected a number of at most 64 bits, got {size}")
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f"--{key}: expected a number, got nan")


def _values(settings: Any, key: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Namespace):
        settings = vars(settings)
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _values(value, key if name in _INSIDE else (*key, str(name)))
    elif isinstance(settings, list | tuple | set):
        for value in settings:
            yield from _values(value, key)
    else:
        yield ".".join(key), settings
