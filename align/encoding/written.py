"""Whether a template wrote all that a turn holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from align.encoding.rendering import RowRefused
from align.records import Message

PROBED = "_probed"
"""What is put behind the names of calls: as they stand they may be in a schema, or in what somebody says."""


def check_written(message: Message, text: str) -> None:
    """Raise RowRefused where a turn is not in the text."""
    if message.role != "assistant" and message.content.strip()[:60] not in text:
        raise RowRefused(f"chat template leaves out a {message.role} turn")


def check_calls(messages: Sequence[Message], render: Callable[[Sequence[Message]], str]) -> None:
    """Raise RowRefused where a call of a dialogue is not in its text, which `render` writes under other names."""
    if not any(message.tool_calls for message in messages):
        return
    names: list[str] = []
    text = render([_probed(message, names) for message in messages])
    if any(name not in text for name in names):
        raise RowRefused("chat template leaves out a tool call")


def _probed(message: Message, names: list[str]) -> Message:
    """Return a turn with the names of its calls changed, and add them to `names`."""
    if not message.tool_calls:
        return message
    calls = json.loads(message.tool_calls)
    for call in calls:
        function = call.get("function", call)
        function["name"] = f"{function.get('name', '')}{PROBED}{len(names)}"
        names.append(function["name"])
    return message._replace(tool_calls=json.dumps(calls))
