"""Dialogues that were written into a cell of text: as JSON, or as Python prints them (CSV files hold nothing else)."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from typing import Any

from align.data.drop_report import RowError
from align.data.readers import Located
from align.errors import shorten

WHO, WHAT = {"role", "from"}, {"content", "value", "tool_calls", "function_call"}
ANSWERS, GRADES = {"text", "response", "answer", "content"}, {"score", "scores", "reward", "rating", "pm_score", "rank"}
TURNS = re.compile(r"\s*(\[\s*)?\{\s*(['\"])\w+\2\s*:")
"""How an object begins, or a list of them."""
LIST = re.compile(r"\s*\[\s*\{\s*(['\"])(role|from|content|value)\1\s*:")
"""How a list of turns begins."""


def decoded(located: Located, *, strict: bool = True) -> Located:
    """Return a row whose cells hold the dialogues that are written in them; other JSON stays the text it is.

    Raises RowError for a cell that begins like a list of turns and cannot be read (as a text it would be trained on as
    it stands), unless `strict` is false.
    """
    written = [name for name, value in located.row.items() if isinstance(value, str) and TURNS.match(value)]
    folded = {
        name: rows for name, value in located.row.items() if isinstance(value, dict) and (rows := _unfolded(value))
    }
    if not written and not folded:
        return located
    row = {**located.row, **folded}
    for name in written:
        found = _read(row[name])
        if _is_turn(found) or (isinstance(found, list) and found and all(map(_is_turn, found))):
            row[name] = found
        elif strict and found is None and LIST.match(row[name]):
            fault = "begins like messages and is neither JSON nor a Python list"
            raise RowError(located.where, f"{name!r} {fault}", f"{name!r} {shorten(row[name], 40)!r} {fault}")
    return Located(located.where, row)


def _unfolded(value: dict[str, Any]) -> list[Any] | None:
    """Return the turns or answers of an object that holds them.

    Either under `messages` and nothing else, as LMFlow writes them, or as columns, as `datasets` does with a sequence.
    """
    held = value.get("messages")
    if isinstance(held, list) and not any(inner for name, inner in value.items() if name != "messages"):
        return held
    columns = list(value.values())
    known = (value.keys() & WHO and value.keys() & WHAT) or (value.keys() & ANSWERS and value.keys() & GRADES)
    if not known or not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return None
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _is_turn(value: Any) -> bool:
    """Tell whether a value says who speaks and what."""
    return isinstance(value, dict) and bool(value.keys() & WHO and value.keys() & WHAT)


def _array(text: str) -> Any:
    """Return a list that numpy printed, as pandas does with the nested columns of a Parquet file: without commas.

    Inside its texts a line break is written as two characters.
    """
    return ast.literal_eval(re.sub(r"\}\n\s*\{", "}, {", text))


def _read(text: str) -> Any:
    for read in (json.loads, ast.literal_eval, _array):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return read(text.strip())
    return None
