"""What servers of the OpenAI kind say went wrong, as plain text for messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from align.errors import shorten

QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")


def read_error(body: str) -> dict[str, str] | None:
    """Return the error object of a raw body, if it holds one in place of an answer, as text that can be shown.

    Servers written with FastAPI, such as that of transformers, call it `detail`: a text, or a list of what is wrong.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("choices"):
        return None
    error = _error_of(content)
    if not error:
        return None
    if not isinstance(error, dict):
        return {"message": printable(error)}
    return {name: printable(error[name]) for name in ("message", "code", "type") if error.get(name)}


def _error_of(content: dict[str, Any]) -> Any:
    """Return the error of an answer: under `error`, as vLLM before 0.10 and SGLang have it, or FastAPI's `detail`."""
    if content.get("success") is False:
        return {"message": content.get("error_message") or content.get("message")}
    if content.get("object") == "error":
        return {"message": content.get("message"), "type": content.get("type")}
    detail = content.get("detail")
    if isinstance(detail, list):  # what pydantic found wrong with the fields of a request
        detail = "; ".join(f"{_place(found)} {found.get('msg', '')}" for found in detail if isinstance(found, dict))
    return content.get("error") or detail


def _place(found: Mapping[str, Any]) -> str:
    place = found.get("loc")
    return ".".join(map(str, place)) if isinstance(place, list) else ""


def advice(refused: str, settings: Mapping[str, str]) -> str:
    """Return what to change where a refusal names a field of the request: by field, the words that say how."""
    named = next((name for name in sorted(settings, key=len, reverse=True) if name in refused), None)
    return "" if named is None else f": the server does not take {named}: {settings[named]}"


def uses_up_quota(error: dict[str, str]) -> bool:
    """Return whether an error says that no more can be asked for now."""
    return error.get("code") in QUOTA or error.get("type") in QUOTA


def printable(said: object, limit: int = 160) -> str:
    """Return what a server said on one line, without what a terminal or a file could not take."""
    text = "something that is no text" if isinstance(said, dict | list) else shorten(said, limit)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def storable(text: str) -> str:
    """Return a text with a question mark for what no file can hold: JSON can spell half of a character."""
    return text.encode("utf-8", "replace").decode()
