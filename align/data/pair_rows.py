"""Rows with a chosen and a rejected response: texts, single turns, turns after the prompt, or whole dialogues."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from align.data.column_layouts import BESIDE, GRADES, prompt_key
from align.data.drop_report import DroppedRow, RowError
from align.data.markup import answer_to, whole_dialogue
from align.data.readers import Located, Row
from align.data.row_parts import RowParts, around, joined, prompt_of, said
from align.data.row_validation import field, number
from align.data.transcripts import MARKER, read_dialogue
from align.data.turns import messages_of
from align.records import Message

CHOSEN = ("chosen", "chosen_response", "response_chosen", "preferred_output")
REJECTED = ("rejected", "rejected_response", "response_rejected", "rejected_respomse", "non_preferred_output")


@functools.cache
def graded_columns(side: str) -> tuple[str, ...]:
    """Return the names that the score of the chosen or rejected response goes by."""
    joints = [f"{side}{joint}{name}" for name in GRADES for joint in ("_", "-")]
    return (*(f"{name}_{side}" for name in GRADES), *joints)


@functools.cache
def model_columns(side: str) -> tuple[str, ...]:
    """Return the names that the model behind the chosen or rejected response goes by."""
    return f"{side}_model", f"{side}-model", f"model_{side}"


PAIR_NUMBERS = ("margin", "metadata", *graded_columns("chosen"), *graded_columns("rejected"))
PAIR_MODELS = (*model_columns("chosen"), *model_columns("rejected"))


def found(row: Row, names: Sequence[str]) -> str | None:
    """Return the first of the columns that the row has something in."""
    return next((name for name in names if row.get(name) is not None), None)


def pair(located: Located) -> RowParts:
    """Read `chosen` and `rejected`: texts, single turns, turns after the prompt, or whole dialogues."""
    where, row = located
    keys = [next((n for n in names if n in row), names[0]) for names in (CHOSEN, REJECTED)]
    values: list[Any] = [[v] if isinstance(v := field(located, key, (str, list, dict)), dict) else v for key in keys]
    if type(values[0]) is not type(values[1]):
        reason = f"{keys[0]} and {keys[1]} are of different kinds, both must be text or both messages"
        raise RowError(where, reason)
    scores = pair_scores(located)
    more: dict[str, Any] = {
        "ratings": {"score": scores} if scores else {},
        "ranking": ((0, 1),) if scores and scores[0] == scores[1] else ((0,), (1,)),
        "origins": [str(row[name]) if (name := found(row, model_columns(s))) else "" for s in ("chosen", "rejected")],
    }
    if isinstance(values[0], list):
        dialogues = [messages_of(where, value) for value in values]
        if any(d and d[0].role != "assistant" for d in dialogues):
            return whole_dialogues(located, dialogues, more)
        return RowParts(prompt_of(located, prompt_key(located)), dialogues, **more)
    if all(map(is_transcript, values)):
        return whole_dialogues(located, [read_dialogue(value) for value in values], more)
    if all(dialogues := [whole_dialogue(value) for value in values]):
        return whole_dialogues(located, dialogues, more)
    key = prompt_key(located)
    return RowParts(prompt_of(located, key), [said(answer_to(row[key], value)) for value in values], **more)


def is_transcript(text: str) -> bool:
    """Return whether a text begins with the human's role marker."""
    begun = MARKER.match(text)
    return begun is not None and begun.group(1) == "Human"


def pair_scores(located: Located) -> list[float]:
    """Return the scores of chosen and rejected (also in `metadata`), or a `margin` against 0, none where unknown."""
    where, row = located
    if row.keys().isdisjoint(PAIR_NUMBERS):
        return []
    for holder in (row, row.get("metadata")):
        if not isinstance(holder, dict):
            continue
        keys = [found(holder, graded_columns(side)) for side in ("chosen", "rejected")]
        if all(keys):
            scores = [number(where, f"{key!r}", holder[key]) for key in keys if key]
            if not any(map(math.isnan, scores)):
                return scores
    margin = number(where, "'margin'", row.get("margin"))
    return [] if math.isnan(margin) else [margin, 0.0]


def whole_dialogues(located: Located, dialogues: list[list[Message]], more: dict[str, Any]) -> RowParts:
    """Split whole dialogues into the turns they share and the rest; they must at least ask the same first question."""
    least = min(map(len, dialogues))
    shared = next((i for i in range(least) if dialogues[0][i] != dialogues[1][i]), least)
    if "user" not in (m.role for m in dialogues[0][:shared]):
        raise DroppedRow("chosen and rejected have different prompts")
    shared = min(shared, least - 1)
    bare = Located(located.where, {name: value for name, value in located.row.items() if name != "input"})
    prompt = around(bare, dialogues[0][:shared])
    key = next((name for name in (*BESIDE, "input") if located.row.get(name)), None)
    if key is not None:
        prompt = joined(prompt_of(located, key), prompt, "the dialogues of chosen and rejected")
    return RowParts(prompt, [d[shared:] for d in dialogues], **more)
