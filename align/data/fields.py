"""Checks on the fields of a row, and cleaning that every source shares."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from align.data.readers import Located
from align.errors import DataError, did_you_mean, shorten
from align.records import Message, Role

ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "system": "system",
}


def field(located: Located, key: str, kind: type | tuple[type, ...] = str) -> Any:
    """Return a field of the expected type. Raises DataError naming place, key, and what was found."""
    where, row = located
    if key not in row:
        raise DataError(
            f"{where}: no key {key!r}{did_you_mean(key, row)} (the row has {', '.join(map(str, row)) or 'none'})"
        )
    value = row[key]
    if value is None:
        raise DataError(f"{where}: {key!r} is null, expected {_names(kind)}")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DataError(f"{where}: {key!r} is {type(value).__name__} {shorten(value, 30)!r}, expected {_names(kind)}")
    if isinstance(value, float):
        check_finite(where, repr(key), value)
    return value


def check_finite(where: str, name: str, value: float) -> None:
    """Raise DataError for NaN and infinity, which would pass through a loss unnoticed."""
    if not math.isfinite(value):
        raise DataError(f"{where}: {name} {value} is not finite: mend the column, or leave it empty where unknown")


def messages_of(where: str, turns: Iterable[Any]) -> list[Message]:
    """Read `{role, content}` (or `{from, value}`) turns; consecutive turns of one role are joined."""
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise DataError(f"{where}: a message is {type(turn).__name__}, expected an object with role and content")
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if role not in ROLES:
            raise DataError(f"{where}: message role is {role!r}, expected one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise DataError(f"{where}: message content is {type(content).__name__}, expected text")
        messages.append(Message(ROLES[role], content))
    return merge_turns(messages)


def merge_turns(messages: Iterable[Message]) -> list[Message]:
    """Join consecutive turns of the same role with a blank line."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            joined = f"{merged[-1].content}\n\n{message.content}".strip()
            merged[-1] = Message(message.role, joined)
        else:
            merged.append(message)
    return merged


def text_fault(text: str) -> str | None:
    """Return why a text cannot be trained on, or None."""
    if not text.strip():
        return "empty response"
    return unreadable(text)


def unreadable(text: str) -> str | None:
    """Return why a text cannot be tokenised faithfully, or None."""
    if "\0" in text:
        return "NUL character in the text"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "lone surrogate in the text"
    return None


def prompt_id(messages: Sequence[Message]) -> str:
    """Return a hash of the messages, equal for prompts that differ in white space only."""
    normalised = [(m.role, " ".join(m.content.split())) for m in messages]
    return hashlib.sha256(json.dumps(normalised).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _names(kind: type | tuple[type, ...]) -> str:
    names = {str: "text", list: "a list", dict: "an object", int: "a number", float: "a number", bool: "true or false"}
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(dict.fromkeys(names.get(k, k.__name__) for k in kinds))


def hashed(name: str) -> int:
    """Return a number that depends on a name only, to draw by."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)
