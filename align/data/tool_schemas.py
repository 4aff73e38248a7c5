"""Functions that may be called, as OpenAI, Anthropic, Bedrock and Gemini write them, in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

from align.data.drop_report import RowError
from align.data.turns import bare, in_json
from align.errors import shorten


def tools_of(where: str, value: Any) -> str:
    """Return function schemas as a JSON list, "" for none; they may be written as JSON text, or without their type."""
    if isinstance(value, str) and value.strip():
        value = in_json(where, "tools", value)
    if not value:
        return ""
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, dict) for entry in entries):
        raise RowError(where, "'tools' is no list of functions", f"'tools' is {shorten(value, 30)!r}, expected a list")
    return json.dumps([bare(schema) for entry in entries for schema in _schemas(entry)])


def _schemas(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of an entry of tools: OpenAI's, bare, Anthropic's, Bedrock's, or a list of Gemini's."""
    if "function" in entry:
        return [entry]
    declared = entry.get("functionDeclarations", entry.get("function_declarations"))
    if isinstance(declared, list):
        return [schema for one in declared for schema in _schemas(one)]
    inner = entry.get("toolSpec", entry)
    if "input_schema" in inner or "inputSchema" in inner:
        given = inner.get("input_schema", inner.get("inputSchema"))
        kept = {key: value for key, value in inner.items() if key not in ("input_schema", "inputSchema", "type")}
        inner = {**kept, "parameters": given.get("json", given) if isinstance(given, dict) else given}
    return [{"type": "function", "function": inner}]
