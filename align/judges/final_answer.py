"""The part of a judge's reply that is its answer: what follows its thoughts, out of a fence, and the JSON in it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, NamedTuple

_TAGS = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|seed:think|analysis)"
_END = re.compile(
    rf"</{_TAGS}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>", re.IGNORECASE
)
"""Marks that end thoughts; the last one counts, so that no mark quoted within them does."""
_BEGIN = re.compile(
    rf"^\s*(?:<{_TAGS}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>analysis<\|message\|>)",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"\s*(`{3,})[\w+-]*[ \t]*\n(.*)\n[ \t]*\1\s*", re.DOTALL)
_OBJECT = re.compile(r"\{(?=\s*[\"}])")
MAX_OBJECTS = 100


class FinalAnswer(NamedTuple):
    """A reply without its thoughts."""

    text: str
    thought: bool = False
    """Whether thoughts stood before it."""
    fault: str = ""
    """Why there is no answer."""


def final_answer(reply: str) -> FinalAnswer:
    """Return what a reply says after its thoughts; a fence around all of it is taken off."""
    *_, end = [0, *(match.end() for match in _END.finditer(reply))]
    text = reply[end:]
    if _BEGIN.search(text):
        return FinalAnswer("", True, "thoughts without an end")
    if end and not text.strip():
        return FinalAnswer("", True, "thoughts without an answer")
    fenced = _FENCE.fullmatch(text)
    if fenced and fenced[1] not in fenced[2]:
        text = fenced[2]
    return FinalAnswer(text, end > 0)


def find_object(text: str, keys: Collection[str]) -> dict[str, Any] | str:
    """Return the one JSON object with all the keys that an answer gives, or why there is none.

    Prose may stand around it: the object opens the answer, stands in its last line, or has lines of its own. Where
    others stand within sentences, which may be quotations, it has to be the last and on lines of its own.
    """
    found: list[tuple[dict[str, Any], int, int]] = []
    place = 0
    while match := _OBJECT.search(text, place):
        if len(found) == MAX_OBJECTS:
            return "too many JSON objects"
        try:
            value, place = json.JSONDecoder(object_pairs_hook=_once).raw_decode(text, match.start())
        except (ValueError, RecursionError):
            return "not one JSON object"
        if all(key in value for key in keys):
            found.append((value, match.start(), place))
    alone = [one for one in found if _is_alone(text, *one[1:])]
    if not found:
        return f"no JSON object with {', '.join(keys)}"
    if len(found) > 1 and not (len(alone) == 1 and alone[0] == found[-1] and _is_last(text, found[-1][2])):
        return "several verdicts in JSON"
    value, start, end = found[-1]
    if alone or not text[:start].strip() or _is_last(text, end):
        return dict(value)
    return "JSON object within a sentence"


def _is_alone(text: str, start: int, end: int) -> bool:
    return not text[text.rfind("\n", 0, start) + 1 : start].strip() and not text[end:].split("\n", 1)[0].strip()


def _is_last(text: str, end: int) -> bool:
    """Tell whether nothing follows on further lines, but for the end of a fence."""
    return not "".join(text[end:].split("\n")[1:]).replace("`", "").strip()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
