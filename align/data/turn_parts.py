"""Turns whose content is a list of parts that think, call tools or hold results: Anthropic's, Bedrock's, Gemini's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SPEAKER, SPOKEN = ("role", "from", "author", "speaker"), ("content", "value", "text", "message")
"""What says who speaks in a turn, and what: the first that is there."""
WRAPPED = {
    "toolUse": "tool_use",
    "toolResult": "tool_result",
    "reasoningContent": "thinking",
    "functionCall": "tool_use",
    "function_call": "tool_use",
    "functionResponse": "tool_result",
    "function_response": "tool_result",
}
"""Bedrock and Gemini name a part by its only key."""
KINDS = frozenset({"thinking", "tool_use", "tool_result"})


def unfolded(turn: Any) -> list[Any]:
    """Return a turn as turns of text, thoughts and calls; one without such parts is returned as it is.

    Results of tools are turns of their own, before what the user says beside them; other parts stay where they are.
    """
    if not isinstance(turn, dict):
        return [turn]
    content = turn.get("parts") if "parts" in turn else turn.get("content")
    if not isinstance(content, list):
        return [turn]
    parts = [_typed(part) for part in content]
    if "parts" not in turn and not any(isinstance(part, dict) and part.get("type") in KINDS for part in parts):
        return [turn]
    by_kind: dict[Any, list[Any]] = {}
    for part in parts:
        by_kind.setdefault(part.get("type") if isinstance(part, dict) else None, []).append(part)
    results = [_result(part) for part in by_kind.pop("tool_result", ())]
    more: dict[str, Any] = {}
    if thoughts := by_kind.pop("thinking", None):
        more["reasoning_content"] = "\n".join(_thought(part) for part in thoughts)
    if calls := by_kind.pop("tool_use", None):
        more["tool_calls"] = [_call(part) for part in calls]
    left = [part for part in parts if not (isinstance(part, dict) and part.get("type") in KINDS)]
    kept = {key: value for key, value in turn.items() if key not in ("parts", "content")}
    return [*results, *([{**kept, "content": left or "", **more}] if left or more else [])]


def _typed(part: Any) -> Any:
    """Return a part with its kind under `type`."""
    if not isinstance(part, dict) or "type" in part:
        return part
    if part.get("thought") is True and "text" in part:
        return {"type": "thinking", "thinking": part["text"]}
    for key, kind in WRAPPED.items():
        if isinstance(part.get(key), Mapping):
            return {**part[key], "type": kind}
    return part


def _thought(part: Mapping[str, Any]) -> str:
    inner = part.get("reasoningText")
    found = part.get("thinking", inner.get("text") if isinstance(inner, Mapping) else part.get("text"))
    return found if isinstance(found, str) else ""


def _call(part: Mapping[str, Any]) -> dict[str, Any]:
    named = part.get("id", part.get("toolUseId"))
    call = {"name": part.get("name"), "arguments": part.get("input", part.get("args")) or {}}
    return {"id": named, **call} if named else call


def _result(part: Mapping[str, Any]) -> dict[str, Any]:
    said = part.get("content", part.get("response"))
    if isinstance(said, list) and any(isinstance(inner, dict) and "json" in inner for inner in said):
        said = "\n".join(json.dumps(inner["json"]) if "json" in inner else str(inner.get("text", "")) for inner in said)
    elif isinstance(said, Mapping):
        said = json.dumps(said)
    called = part.get("tool_use_id", part.get("toolUseId", part.get("id")))
    return {
        "role": "tool",
        "content": said if said is not None else "",
        "tool_call_id": called,
        "name": part.get("name"),
    }
