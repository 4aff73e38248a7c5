"""Checks on the fields of a row, and cleaning that every source shares."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from align.data.drop_report import RowError
from align.data.readers import Located
from align.errors import DataError, did_you_mean, shorten
from align.records import Message

FLAGS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False, "-1": False, "-1.0": False}
SURROGATE = re.compile("[\ud800-\udfff]")
INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Letters that show nothing; control and format characters are known by their category."""


def field(located: Located, key: str, kind: type | tuple[type, ...] = str) -> Any:
    """Return a field of the expected type. Raises RowError naming place, key, and what was found."""
    where, row = located
    if key not in row:
        there = ", ".join(map(str, row)) or "none"
        raise RowError(where, f"no key {key!r}", f"no key {key!r}{did_you_mean(key, row)} (the row has {there})")
    value = row[key]
    if value is None:
        raise RowError(where, f"{key!r} is null", f"{key!r} is null, expected {_names(kind)}")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        found = f"{key!r} is {type(value).__name__} {shorten(value, 30)!r}, expected {_names(kind)}"
        raise RowError(where, f"{key!r} is {type(value).__name__}, expected {_names(kind)}", found)
    return value


def number(where: str, name: str, value: object) -> float:
    """Return a number that may be written as text, NaN for one that is missing (null or an empty text).

    Raises RowError for what is no number, and DataError for NaN and infinity: they come from a fault of whatever wrote
    the file, and would pass through a loss unnoticed.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except ValueError:
        found = None
    except OverflowError:  # a whole number of more than 308 digits
        found = math.inf
    if found is None:
        raise RowError(where, f"{name} is not a number", f"{name} {shorten(value, 30)!r} is not a number")
    if not math.isfinite(found):
        raise DataError(f"{where}: {name} {found} is not finite: mend the column, or leave it empty where unknown")
    return found


def flag(where: str, name: str, value: object) -> bool | None:
    """Return true or false, which may be text or 1 and 0 or -1, None for a missing one. Raises RowError."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    found = FLAGS.get(str(value).strip().lower()) if isinstance(value, (bool, int, float, str)) else None
    if found is None:
        detail = f"{name!r} is {shorten(value, 30)!r}, expected true or false"
        raise RowError(where, f"{name!r} is neither true nor false", detail)
    return found


def blank(text: str) -> bool:
    """Return whether a text shows nothing: white space, control, zero-width and filler characters only."""
    return not any(map(_shows, text))


def _shows(character: str) -> bool:
    return not (
        character.isspace() or character in INVISIBLE or unicodedata.category(character) in ("Cf", "Cc", "Zs", "Mn")
    )


def text_fault(text: str) -> str | None:
    """Return why a text cannot be trained on, or None."""
    return unreadable(text) or ("empty response" if blank(text) else None)


def turn_fault(message: Message) -> str | None:
    """Return why a response cannot be trained on, or None; one that calls a tool may have no text."""
    if message.tool_calls:
        return unreadable(message.content + message.reasoning_content)
    return text_fault(message.content) or unreadable(message.reasoning_content)


def unreadable(text: str) -> str | None:
    """Return why a text cannot be tokenised faithfully, or None."""
    if "\0" in text:
        return "NUL character in the text"
    if not text.isascii() and SURROGATE.search(text):
        return "lone surrogate in the text"
    return None


def prompt_id(messages: Sequence[Message]) -> str:
    """Return a hash of the messages, equal for prompts that differ in white space only."""
    normalised = [(m.role, " ".join(m.content.split()), *([m.tool_calls] if m.tool_calls else [])) for m in messages]
    return hashlib.sha256(json.dumps(normalised).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _names(kind: type | tuple[type, ...]) -> str:
    names = {str: "text", list: "a list", dict: "an object", int: "a number", float: "a number", bool: "true or false"}
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(dict.fromkeys(names.get(k, k.__name__) for k in kinds))


def hashed(name: str) -> int:
    """Return a number that depends on a name only, to draw by."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)
