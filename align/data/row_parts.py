"""What a convention finds in a row, and how a record is put together from it and the columns every convention reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.data.drop_report import DroppedRow, LeftOut, RowError
from align.data.markup import prompt_turns
from align.data.readers import Located
from align.data.row_validation import blank, number
from align.data.tool_schemas import tools_of
from align.data.turns import bare, in_json, merge_turns, message_of, messages_of, plain
from align.errors import shorten
from align.records import ASKING, Beside, Example, Message

SYSTEM = ("system", "system_prompt", "system_message", "systemInstruction", "system_instruction")
TOOLS = ("tools", "functions")
ADDED = frozenset({"history", *SYSTEM})
"""Columns that put turns before a prompt."""
SETTINGS = "chat_template_kwargs"
"""What a chat template is given for a row, as in TRL."""
EVERYWHERE = frozenset({"id", "input", "history", "weight", SETTINGS, *SYSTEM, *TOOLS})
"""Columns that are read whatever the convention."""


@dataclass(frozen=True)
class RowParts:
    """A prompt, and for each response the turns that follow it, the last of them the response."""

    prompt: Sequence[Message]
    answers: Sequence[Sequence[Message]] = ()
    ratings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By attribute one number per response, NaN where unknown."""
    ranking: tuple[tuple[int, ...], ...] = ()
    origins: Sequence[str] = ()
    whole: bool = False
    """A dialogue whose earlier assistant turns are to be learnt as well."""
    tools: Any = None
    """Functions that may be called, where they are in no column of their own."""
    suffix: str = ""
    """Sets the records of one row apart."""


def said(text: str) -> list[Message]:
    """Return a response as the turns that follow a prompt."""
    return [Message("assistant", text)]


def prompt_of(located: Located, key: str) -> list[Message]:
    """Return the prompt in a column, text or turns, with the system text, history and input of its row."""
    value = located.row[key]
    if isinstance(value, str):
        messages = prompt_turns(value)
    elif isinstance(value, list):
        messages = messages_of(located.where, value)
    elif value is None:
        raise DroppedRow("empty prompt")
    else:
        kind = type(value).__name__
        raise RowError(
            located.where,
            f"{key!r} is {kind}, expected text or a list",
            f"{key!r} is {kind} {shorten(value, 30)!r}, expected text or a list",
        )
    return around(located, messages, key)


def around(located: Located, messages: Sequence[Message], key: str = "") -> list[Message]:
    """Return a prompt with the columns of its row that belong to it; `key` is where the prompt itself was."""
    turns = list(messages)
    if key != "input" and (text := _text(located, "input")):
        last = turns[-1] if turns else Message("user", "")
        turns = [*turns[:-1], last._replace(content=f"{last.content}\n\n{text}".strip())]
    if key and len(turns) == 1 and located.row.keys().isdisjoint(ADDED):
        return turns
    lead = [m for m in turns[:1] if m.role == "system"]
    texts = {column: _system(located, column) for column in SYSTEM}
    new = [Message("system", t) for t in texts.values() if t and t not in [m.content.strip() for m in lead]]
    history = [] if key == "history" else _history(located)
    return merge_turns([*new, *lead, *history, *turns[len(lead) :]])


def joined(asked: list[Message], context: list[Message], where: str) -> list[Message]:
    """Return the context of dialogues with what only their prompt column has: a system text, or earlier turns.

    Raises DroppedRow for a prompt that is not in them; `where` is what they are called.
    """
    systems = [m for m in (*asked, *context) if m.role == "system"]
    wanted, there = ([m for m in turns if m.role != "system"] for turns in (asked, context))
    texts, words = ([m.content.strip() for m in turns] for turns in (wanted, there))
    if texts in (words[: len(texts)], words[len(words) - len(texts) :]) or (len(texts) == 1 and texts[0] in words):
        turns = there
    elif words == texts[len(texts) - len(words) :]:
        turns = wanted
    else:
        raise DroppedRow(f"prompt is not in {where}")
    known = {m.content.strip(): m for m in reversed(systems)}
    return [*([Message("system", "\n\n".join(reversed(known)))] if known else []), *turns]


def example_of(located: Located, parts: RowParts, name: str, source: str) -> Example:
    """Return the record. Raises DroppedRow for a row that asks nothing or whose dialogue has no response."""
    if any(not turns or turns[-1].role != "assistant" for turns in parts.answers):
        raise DroppedRow("last turn is not the assistant's")
    contexts = tuple((*parts.prompt, *turns[:-1]) for turns in parts.answers) or (tuple(parts.prompt),)
    different = dict.fromkeys(contexts)
    for context in different:
        if not context or context[-1].role not in ASKING:
            raise DroppedRow("prompt does not end with a user turn")
        if context[-1].role == "user" and blank(context[-1].content):
            raise DroppedRow("empty prompt")
    answers = tuple(turns[-1] for turns in parts.answers)
    known = any(not math.isnan(value) for values in parts.ratings.values() for value in values)
    ratings = parts.ratings if known else {}
    return Example(
        id=name + parts.suffix,
        messages=contexts[0],
        responses=tuple(m.content for m in answers),
        attributes=tuple(ratings),
        scores=tuple(zip(*ratings.values(), strict=True)),
        ranking=parts.ranking,
        origins=tuple(parts.origins) if any(parts.origins) else (),
        weight=_weight(located),
        source=source,
        answers=answers if not all(map(plain, answers)) else (),
        contexts=contexts if len(different) > 1 else (),
        whole=parts.whole,
        tools=Beside(_tools(located, parts.tools), _settings(located)).as_text,
    )


def _tools(located: Located, inside: Any) -> str:
    given = [inside, *(located.row.get(key) for key in TOOLS)]
    return next((found for value in given if (found := tools_of(located.where, value))), "")


def _settings(located: Located) -> dict[str, Any]:
    value = located.row.get(SETTINGS)
    if isinstance(value, str) and value.strip():
        value = in_json(located.where, f"{SETTINGS!r}", value)
    if value and not isinstance(value, dict):
        raise RowError(located.where, f"{SETTINGS!r} is {type(value).__name__}, expected an object")
    return dict(bare(value)) if value else {}


def _text(located: Located, key: str) -> str:
    value = located.row.get(key)
    if value is not None and not isinstance(value, str):
        raise RowError(located.where, f"{key!r} is {type(value).__name__}, expected text")
    return (value or "").strip()


def _system(located: Located, key: str) -> str:
    """Return a system text, which Bedrock and Gemini write as parts."""
    value = located.row.get(key)
    parts = value.get("parts") if isinstance(value, dict) else value
    if isinstance(parts, list) and all(isinstance(part, dict) for part in parts):
        return message_of(located.where, {"role": "system", "content": parts}).content.strip()
    return _text(located, key)


def _weight(located: Located) -> float:
    weight = number(located.where, "'weight'", located.row.get("weight"))
    if weight == 0:
        raise LeftOut("weight 0")
    if weight < 0:
        raise RowError(located.where, "'weight' is negative")
    return 1.0 if math.isnan(weight) else weight


def _history(located: Located) -> list[Message]:
    """Return earlier turns: pairs of question and answer as LLaMA-Factory writes them, or messages."""
    value: Any = located.row.get("history") or []
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        return messages_of(located.where, value)
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 2 for p in value):
        raise RowError(located.where, "'history' is neither pairs of texts nor messages")
    return [
        Message(role, str(text or ""))  # type: ignore[arg-type]
        for pair in value
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
