"""Preference rows in the field's column conventions, told apart by their keys.

`prompt, chosen, rejected` | `chosen, rejected` (implicit prompt) | `prompt, completions, scores` (lists) |
`prompt, completion, label` (unpaired) | `prompt, completion` | `messages` | `prompt` | `prefix, suffix, reward` (PRO's
lists); texts may be plain or lists of messages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from align.data.fields import check_finite, field, messages_of
from align.data.list_rows import from_pro, labelled_ranking, origins_of, rank_by_score
from align.data.readers import Located, Row
from align.data.source import DroppedRow
from align.data.transcripts import MARKER, read_context, read_dialogue
from align.errors import DataError
from align.records import Example, Message

LISTS = ("completions", "responses")
SINGLE = ("completion", "response")


def example_of(located: Located, source: str, example_id: str) -> Example:
    """Return the example of a row. Raises DataError for a row in none of the conventions."""
    row = located.row
    common: dict[str, Any] = {"id": example_id, "source": source}
    if "prefix" in row and "suffix" in row:
        return _list(from_pro(located), "completions", common)
    if "chosen" in row or "rejected" in row:
        return _pair(located, common)
    if lists := [key for key in LISTS if isinstance(row.get(key), list)]:
        return _list(located, lists[0], common)
    if single := [key for key in SINGLE if key in row]:
        return _single(located, single[0], common)
    if "messages" in row:
        messages = messages_of(located.where, field(located, "messages", list))
        answer = _answer(messages)
        return Example(messages=_context(messages[:-1]), responses=(answer,), **common)
    if "prompt" in row:
        return Example(messages=tuple(_prompt(located)), **common)
    raise DataError(
        f"{located.where}: columns {', '.join(map(str, row)) or 'none'} fit no convention (prompt/chosen/rejected, "
        "chosen/rejected, prompt/completions/scores, prompt/completion/label, messages, prompt): set data.columns"
    )


def _pair(located: Located, common: dict[str, Any]) -> Example:
    values = [field(located, key, (str, list)) for key in ("chosen", "rejected")]
    if type(values[0]) is not type(values[1]):
        raise DataError(
            f"{located.where}: chosen and rejected are of different kinds, both must be text or both messages"
        )
    if "prompt" in located.row and isinstance(values[0], str):
        messages, answers = _prompt(located), values
    else:
        messages, answers = _implicit(located.where, values)
        if "prompt" in located.row and not messages:
            messages = _prompt(located)
    scores = _pair_scores(located)
    options: dict[str, Any] = {"attributes": ("score",), "scores": scores} if scores else {}
    context = _context(messages)
    return Example(messages=context, responses=tuple(answers), ranking=_pair_ranking(scores), **options, **common)


def _pair_scores(located: Located) -> tuple[tuple[float], ...]:
    """Return `score_chosen` and `score_rejected` (also inside `metadata`), or a `margin` against 0."""
    row = located.row
    for holder in (row, row.get("metadata")):
        if (
            isinstance(holder, dict)
            and holder.get("score_chosen") is not None
            and holder.get("score_rejected") is not None
        ):
            place = Located(located.where, holder)
            return tuple((float(field(place, key, (int, float))),) for key in ("score_chosen", "score_rejected"))
    if row.get("margin") is not None:
        return ((float(field(located, "margin", (int, float))),), (0.0,))
    return ()


def _pair_ranking(scores: Sequence[tuple[float]]) -> tuple[tuple[int, ...], ...]:
    """Chosen before rejected, tied where both scores are equal."""
    return ((0, 1),) if scores and scores[0] == scores[1] else ((0,), (1,))


def _implicit(where: str, values: Sequence[Any]) -> tuple[list[Message], list[str]]:
    """Split two whole dialogues into their common context and the two answers."""
    if isinstance(values[0], list):
        dialogues = [messages_of(where, value) for value in values]
    elif all(MARKER.match(value) for value in values):
        dialogues = [read_dialogue(value) for value in values]
    else:
        shared = next((i for i, (a, b) in enumerate(zip(*values, strict=False)) if a != b), min(map(len, values)))
        prompt = values[0][: max(values[0].rfind(mark, 0, shared) for mark in (" ", "\n")) + 1]
        if not prompt.strip():
            raise DroppedRow("chosen and rejected share no prompt")
        return [Message("user", prompt.strip())], [value[len(prompt) :] for value in values]
    if dialogues[0][:-1] != dialogues[1][:-1]:
        raise DroppedRow("chosen and rejected have different prompts")
    return dialogues[0][:-1], [_answer(dialogue) for dialogue in dialogues]


def _list(located: Located, key: str, common: dict[str, Any]) -> Example:
    entries = field(located, key, list)
    texts = [_entry_text(located.where, entry) for entry in entries]
    graded = [e.get("reward", e.get("score")) if isinstance(e, dict) else None for e in entries]
    for name in ("scores", "rewards"):
        if located.row.get(name) is not None:
            graded = field(located, name, list)
    if len(graded) != len(texts):
        raise DataError(f"{located.where}: {len(texts)} {key} but {len(graded)} scores")
    scores = tuple((_number(located.where, value),) for value in graded)
    known = not any(math.isnan(s[0]) for s in scores)
    ranking = labelled_ranking(located, len(texts)) or (rank_by_score([s[0] for s in scores]) if known else ())
    options: dict[str, Any] = {"attributes": ("score",), "scores": scores} if known else {}
    return Example(
        messages=_context(_prompt(located)),
        responses=tuple(texts),
        ranking=ranking,
        origins=origins_of(located, entries),
        **options,
        **common,
    )


def _single(located: Located, key: str, common: dict[str, Any]) -> Example:
    value = field(located, key, (str, list))
    text = value if isinstance(value, str) else _answer(messages_of(located.where, value))
    options: dict[str, Any] = {}
    if located.row.get("label") is not None:
        label = located.row["label"]
        if label not in (True, False):
            raise DataError(f"{located.where}: 'label' is {label!r}, expected true or false")
        options = {"attributes": ("desirable",), "scores": ((float(label),),)}
    return Example(messages=_context(_prompt(located)), responses=(text,), **options, **common)


def _prompt(located: Located) -> list[Message]:
    value = field(located, "prompt", (str, list))
    return read_context(value) if isinstance(value, str) else messages_of(located.where, value)


def _context(messages: Sequence[Message]) -> tuple[Message, ...]:
    if not messages or messages[-1].role != "user":
        raise DroppedRow("prompt does not end with a user turn")
    return tuple(messages)


def _answer(messages: Sequence[Message]) -> str:
    if not messages or messages[-1].role != "assistant":
        raise DroppedRow("last turn is not the assistant's")
    return messages[-1].content


def _entry_text(where: str, entry: Any) -> str:
    if isinstance(entry, dict):
        entry = next((entry[k] for k in ("text", "response", "content", "completion") if k in entry), None)
    if isinstance(entry, list):
        return _answer(messages_of(where, entry))
    if not isinstance(entry, str):
        raise DataError(f"{where}: a completion is {type(entry).__name__}, expected text")
    return entry


def _number(where: str, value: Row | float | str | None) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{where}: score {value!r} is not a number")
    check_finite(where, "score", value)
    return float(value)
