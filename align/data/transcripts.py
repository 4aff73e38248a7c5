"""The `Human:` / `Assistant:` transcripts of HH-RLHF."""

from __future__ import annotations

import re

from align.data.drop_report import DroppedRow
from align.data.turns import merge_turns
from align.records import Message, Role

MARKER = re.compile(r"\s*(Human|Assistant): ?")
"""How a transcript begins."""
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_LINE = re.compile(r"\n(Human|Assistant): ?")
_LAST = "\n\nAssistant:"
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def parse_transcript(text: str) -> list[Message]:
    """Split a transcript at role markers that stand at its start or after a blank line; merge turns of one role.

    Paragraphs after a blank line stay in their turn (PRO's released splitter drops them). Where the text begins with a
    marker, no blank line before it, and none stands after one, those at the beginning of a line are taken.
    """
    before, *pieces = _TURN.split("\n\n" + text.lstrip())
    if not before and len(pieces) == 2 and not text.startswith("\n"):
        _, *pieces = _LINE.split("\n" + text.lstrip())
    if before or not pieces:
        raise DroppedRow("no 'Human:' marker at the start")
    turns = zip(pieces[::2], pieces[1::2], strict=True)
    return merge_turns([Message(_ROLES[who], said.strip()) for who, said in turns])


def read_dialogue(text: str) -> list[Message]:
    """Return the turns of a dialogue that begins with the human and ends with the assistant."""
    messages = parse_transcript(text)
    if messages[0].role != "user":
        raise DroppedRow("first turn is not the human's")
    if messages[-1].role != "assistant":
        raise DroppedRow("last turn is not the assistant's")
    return messages


def read_answers(chosen: str, rejected: str) -> tuple[list[Message], list[str]]:
    """Return the context of two dialogues that differ in their last turn alone, and both answers.

    What both begin with is parsed once. Raises DroppedRow for dialogues with different contexts.
    """
    *context, last = read_dialogue(chosen)
    head, marker, said = chosen.rpartition(_LAST)
    other = rejected[len(head) + len(marker) :]
    if said.strip() == last.content and rejected.startswith(head + marker) and not _TURN.search(other):
        return context, [last.content, other.strip()]
    *others, answer = read_dialogue(rejected)
    if others != context:
        raise DroppedRow("chosen and rejected have different contexts")
    return context, [last.content, answer.content]


def read_context(text: str) -> list[Message]:
    """Return the turns of a prompt: a transcript that may end with an open assistant tag, or plain text."""
    if not MARKER.match(text):
        return [Message("user", text.strip())]
    messages = parse_transcript(text)
    if messages[-1].role == "assistant" and not messages[-1].content:
        messages = messages[:-1]
    if not messages or messages[-1].role != "user":
        raise DroppedRow("prompt does not end with the human's turn")
    return messages
