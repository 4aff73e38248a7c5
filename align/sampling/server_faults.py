"""What servers of the OpenAI kind say went wrong, as plain text for messages."""

from __future__ import annotations

import json

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
    if not (error := content.get("error") or content.get("detail")):
        return None
    if isinstance(error, list):
        error = error[0] if error and isinstance(error[0], dict) else {}
        return {"message": printable(error["msg"])} if error.get("msg") else {}
    if not isinstance(error, dict):
        return {"message": printable(error)}
    return {name: printable(error[name]) for name in ("message", "code", "type") if error.get(name)}


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
