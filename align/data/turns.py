"""The turns of a dialogue as people write them: in the forms of OpenAI, ShareGPT, LLaMA-Factory, axolotl, SteerLM."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable
from typing import Any

from align.data.drop_report import DroppedRow, RowError
from align.data.row_validation import flag, number
from align.data.turn_parts import SPEAKER, SPOKEN, unfolded
from align.errors import shorten
from align.records import Message, Role

ROLES: dict[str, Role] = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "ai", "function_call", "tool_call"), "assistant"
    ),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function", "ipython", "function_response", "tool_response"), "tool"),
}
_NOTHING_MORE = Message("user", "")[2:]
CALLING = ("function_call", "tool_call")
"""Roles whose content is a call."""
TRAINED = ("train", "training", "trainable", "train_on_turn", "loss", "need_loss")
"""What says whether a turn is learnt: axolotl's and ms-swift's."""
READ = frozenset(
    {
        *(*SPEAKER, *SPOKEN, *TRAINED, "parts", "reasoning_content", "reasoning", "thinking", "tool_calls"),
        *("function_call", "tool_call_id", "name", "weight", "label", "train_detail"),
    }
)
"""Keys of a turn that are read, or refused where they cannot be."""


def messages_of(where: str, turns: Iterable[Any]) -> list[Message]:
    """Read `{role, content}` (or `{from, value}`) turns; consecutive plain turns of one role are joined."""
    return merge_turns(message_of(where, part) for turn in turns for part in unfolded(turn))


def message_of(where: str, turn: Any) -> Message:
    """Read one turn. Raises RowError for what is none, DroppedRow for one that holds more than text and calls."""
    if not isinstance(turn, dict):
        raise RowError(
            where,
            "a message is no object",
            f"a message is {type(turn).__name__}, expected an object with role and content",
        )
    said = _first(turn, SPEAKER)
    name = str(said).strip().lower()
    if name not in ROLES:
        known = ", ".join(dict.fromkeys(ROLES.values()))
        raise RowError(where, "unknown role of a message", f"message role is {said!r}, expected one of {known}")
    if turn.get("train_detail"):
        raise DroppedRow("a turn of which only parts are trained on (train_detail)")
    content, calls = _first(turn, SPOKEN), _calls(where, turn)
    if name in CALLING:
        content, calls = "", [*calls, *_written_calls(where, content)]
    text = _text(where, content, optional=bool(calls))
    thought = turn.get("reasoning_content") or turn.get("reasoning") or turn.get("thinking") or ""
    return Message(
        ROLES[name],
        text,
        reasoning_content=_text(where, thought, optional=True),
        tool_calls=json.dumps(calls) if calls else "",
        tool_call_id=str(turn.get("tool_call_id") or ""),
        name=str(turn.get("name") or ""),
        weight=_weight(where, turn),
    )


def speaker(turn: Any) -> Role | None:
    """Return who speaks in a turn, None for what is none."""
    said = _first(turn, SPEAKER) if isinstance(turn, dict) else None
    return ROLES.get(str(said).strip().lower())


def merge_turns(messages: Iterable[Message]) -> list[Message]:
    """Join consecutive turns of the same role with a blank line, where they are nothing but text."""
    found = list(messages)
    roles = [m.role for m in found]
    if all(map(operator.ne, roles, roles[1:])):
        return found
    merged: list[Message] = []
    for message in found:
        last = merged[-1] if merged else None
        if last and last.role == message.role != "tool" and plain(message) and plain(last):
            merged[-1] = last._replace(content=f"{last.content}\n\n{message.content}".strip())
        else:
            merged.append(message)
    return merged


def plain(message: Message) -> bool:
    """Return whether a turn is nothing but text."""
    return message[2:] == _NOTHING_MORE


def _first(turn: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((turn[name] for name in names if name in turn), None)


def _weight(where: str, turn: dict[str, Any]) -> float:
    told = [known for name in TRAINED if (known := flag(where, name, turn.get(name))) is not None]
    trained = all(told)
    weight = number(where, "weight of a message", turn.get("weight"))
    if weight < 0:
        raise RowError(where, "weight of a message is negative")
    return 0.0 if not trained else 1.0 if math.isnan(weight) else weight


def _text(where: str, content: Any, *, optional: bool) -> str:
    if content is None and optional:
        return ""
    if isinstance(content, list):
        return "\n".join(map(_part, content))
    if not isinstance(content, str):
        raise RowError(
            where, "content of a message is no text", f"message content is {type(content).__name__}, expected text"
        )
    return content


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind in ("text", "input_text", "output_text", None) and isinstance(part.get("text"), str):
        return str(part["text"])
    raise DroppedRow(f"a message holds more than text ({kind})")


def _calls(where: str, turn: dict[str, Any]) -> list[dict[str, Any]]:
    found = turn.get("tool_calls") or ([turn["function_call"]] if turn.get("function_call") else [])
    if isinstance(found, str):
        found = in_json(where, "tool_calls", found)
    return [_call(where, call) for call in (found if isinstance(found, list) else [found])]


def _written_calls(where: str, content: Any) -> list[dict[str, Any]]:
    """Return the calls of a ShareGPT turn, whose value is a call or a list of calls, mostly as JSON text."""
    found = in_json(where, "a function call", content) if isinstance(content, str) else content
    return [_call(where, call) for call in (found if isinstance(found, list) else [found])]


def _call(where: str, call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(where, "a tool call names no function", f"tool call {shorten(call, 40)!r} names no function")
    arguments = function.get("arguments", function.get("parameters"))
    arguments = _arguments(arguments) if isinstance(arguments, str) else bare(arguments) or {}
    named = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    return {"id": str(call["id"]), **named} if call.get("id") else named


def _arguments(text: str) -> Any:
    """Return arguments as the object their JSON text stands for, or the text where it is none."""
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError:
        return text
    return found if isinstance(found, dict) else text


def in_json(where: str, name: str, text: str) -> Any:
    """Return what a text holds. Raises RowError for one that is not valid JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise RowError(where, f"{name} is not valid JSON", f"{name} {shorten(text, 40)!r} is not valid JSON") from error


def bare(value: Any) -> Any:
    """Return the value without the nulls that columnar files put in place of what another row has."""
    if isinstance(value, dict):
        return {key: bare(inner) for key, inner in value.items() if inner is not None}
    return [bare(inner) for inner in value] if isinstance(value, list) else value
