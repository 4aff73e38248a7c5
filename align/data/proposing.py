"""What to write where the columns of a file fit no convention: a mapping by their names, never by their order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from align.data.column_names import texts_inside
from align.data.located import Row

WORDS = {
    "prompt": (
        "prompt",
        "question",
        "instruction",
        "query",
        "input",
        "inputs",
        "problem",
        "request",
        "messages",
        "message",
        "article",
        "dialogue",
        "document",
        "post",
        "title",
    ),
    "chosen": ("chosen", "better", "preferred", "accepted", "winner", "win", "good", "positive", "pos", "edited"),
    "rejected": ("rejected", "worse", "dispreferred", "loser", "lose", "bad", "negative", "neg"),
    "response": (
        "response",
        "answer",
        "output",
        "outputs",
        "completion",
        "target",
        "targets",
        "reply",
        "solution",
        "generation",
        "summary",
        "assistant",
        "highlights",
    ),
    "reasoning_content": ("cot", "thinking", "thought", "reasoning"),
}
"""Words of a column's name that say what it holds."""
ASIDE = ("label", "id", "meta", "score", "rating")
"""How names begin of columns that are no answer."""
NO_TEXT = re.compile(
    r"(?:^|[\s_-])(?:id|ids|uid|uuid|hash|model|name|annotator|date|time|url)$|[a-z]Id$|^(?:which|is)\b|\?$"
)
"""How names end of columns that hold no text that is said."""
UNKNOWN = "YOURS"


def proposal(row: Row, texts: Sequence[str], *, alone: bool) -> str:
    """Return what to write for a file.

    Args:
        row: Its first row.
        texts: The columns of it that may hold what is said.
        alone: Whether it is the only row.
    """
    texts = [name for name in texts if not NO_TEXT.search(name.strip())]
    if texts == ["text"]:
        return (
            "a text alone does not tell what is asked and what answers: write who says what as messages, or prompt and "
            "completion (texts with the markup of a known chat template are read, where most rows are such)"
        )
    if alone and (told := _document(row)):
        return told
    if not any(map(_kinds, texts)) and (within := texts_inside(row)):
        asked = next((path for path in within if "prompt" in _kinds(path.rpartition(".")[2])), UNKNOWN)
        there = ", ".join(within)
        return f"name what is inside its columns, such as --data.columns '{{prompt: {asked}}}' (there: {there})"
    return f"set data.columns, such as --data.columns '{{{_mapping(texts)}}}'"


def prompt_like(row: Row, others: Sequence[str]) -> str:
    """Return the column that may hold a prompt: the only one left, or one that is named like it."""
    talk = [str(name) for name, value in row.items() if name in others or _objects(value)]
    return talk[0] if len(talk) == 1 else next(iter(_named(talk, "prompt")), UNKNOWN)


def compares(row: Row) -> bool:
    """Tell whether two texts of a row are named like a better and a worse answer."""
    texts = [str(name) for name, value in row.items() if isinstance(value, str)]
    return bool(_named(texts, "chosen") and _named(texts, "rejected"))


def _mapping(texts: Sequence[str]) -> str:
    """Return a mapping by names; what they do not tell is left to be filled in."""
    found = {name: _named(texts, name) for name in WORDS}
    if (found["chosen"] and found["rejected"]) or len(found["response"]) > 1:
        names = ["prompt", "chosen", "rejected"]
    else:
        names = ["prompt", "response", *(["reasoning_content"] if found["reasoning_content"] else [])]
    given = {
        name: found[name][0] if len(found[name]) == 1 or (name == "prompt" and found[name]) else "" for name in names
    }
    left = [name for name in texts if name not in given.values() and not name.lower().startswith(ASIDE)]
    if len(left) == list(given.values()).count("") == 1:
        given = {name: theirs or left[0] for name, theirs in given.items()}
    return ", ".join(f"{name}: {theirs or UNKNOWN}" for name, theirs in given.items())


def _named(texts: Sequence[str], what: str) -> list[str]:
    """Return the columns whose names say what they hold, and nothing else before it."""
    return [name for name in texts if (kinds := _kinds(name)) and what in kinds and _first(kinds) == what]


def _kinds(name: str) -> list[str]:
    spaced = re.sub("([a-z])([A-Z])", r"\1 \2", name)
    words = re.findall("[a-z]+", f"{name} {spaced}".lower())
    return [what for what, known in WORDS.items() if any(word in known for word in words)]


def _first(kinds: Sequence[str]) -> str:
    """Return what a name means that says several things: a chosen response is the chosen one."""
    return next(what for what in ("chosen", "rejected", "reasoning_content", "response", "prompt") if what in kinds)


def _document(row: Mapping[str, Any]) -> str:
    """Return how to take the rows out of a file that is one object."""
    lists = [str(name) for name, value in row.items() if _objects(value)]
    if len(lists) > 1 and len(lists) == len(row):
        return f"the file is one object with lists of rows under {', '.join(lists)}: write each as a file of its own"
    if len(lists) == 1 and not any(isinstance(value, dict) for value in row.values()):
        key = lists[0]
        return f"the file is one object with a list of {len(row[key])} under {key!r}: write that list alone as the file"
    return ""


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)
