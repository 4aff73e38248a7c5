"""How large the texts may grow that a chat template makes, whatever operator, filter or method makes them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

MAX_CHARACTERS = 20_000_000
_WIDTH = re.compile(r"\d{7,}|%[-+ #0]*\*|\{[^{}]*\{")
_PADDING = {"center", "indent", "wordwrap", "truncate", "batch", "slice"}


class Overrun(Exception):
    """A template took more steps, time or room than any dialogue needs."""


def measured(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that is stopped before its result is too large."""

    @functools.wraps(filter_)
    def call(*args: Any, **kwargs: Any) -> Any:
        if name in _PADDING:
            check_widths(args, kwargs)
        if name == "format":
            check_format(str(args[0]))
        if name == "replace":
            check_replace(*args[-3:])
        return checked(filter_(*args, **kwargs))

    return call


def concat(parts: Iterable[str]) -> str:
    """Return the parts as one text."""
    found, size = [], 0
    for part in parts:
        size += len(part)
        check_size(size)
        found.append(part)
    return "".join(found)


def check_widths(args: Iterable[Any], kwargs: dict[str, Any]) -> None:
    """Raise Overrun for a width of millions."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, int):
            check_size(value)


def check_format(text: str) -> None:
    """Raise Overrun for a format with a width of millions, or one that is computed."""
    if _WIDTH.search(text):
        raise Overrun("it formats a value to a width of millions or one that is computed")


def check_replace(*texts: Any) -> None:
    """Refuse to replace so often that the text cannot be held."""
    if len(texts) >= 3 and all(isinstance(text, str) for text in texts[:3]):
        check_size((texts[0].count(texts[1]) + 1) * len(texts[2]))


def checked(value: Any) -> Any:
    """Return a value that is not too large."""
    if isinstance(value, str | list | tuple):
        check_size(len(value))
    return value


def check_size(size: int) -> None:
    """Raise Overrun for a size that no dialogue has."""
    if size > MAX_CHARACTERS:
        raise Overrun(f"it writes more than {MAX_CHARACTERS:,} characters")
