"""Whether a template wrote all that a turn holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from align.encoding.rendering import RowRefused
from align.records import Message


def check_written(message: Message, text: str) -> None:
    """Raise RowRefused where a turn, or a call in it, is not in the text."""
    if message.role != "assistant" and message.content.strip()[:60] not in text:
        raise RowRefused(f"chat template leaves out a {message.role} turn")
    for call in json.loads(message.tool_calls) if message.tool_calls else ():
        if _name(call) not in text:
            raise RowRefused("chat template leaves out a tool call")


def _name(entry: Mapping[str, Any]) -> str:
    """Return the name of a function, of a schema or a call in either layout."""
    return str(entry.get("function", entry).get("name", ""))
