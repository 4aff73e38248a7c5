"""Trees of messages as Open Assistant releases them (Köpf et al. 2023, arXiv:2304.07327): one to a row, or flat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from align.data.drop_report import DroppedRow, LeftOut, RowError
from align.data.list_rows import rank_by_score
from align.data.located import Located, Row
from align.data.row_parts import RowParts
from align.data.row_validation import blank, number
from align.data.turns import ROLES
from align.records import Message

NODE = frozenset({"text", "role", "replies", "rank", "review_result", "deleted", "message_id", "parent_id"})
"""Keys of a message that are read, or say no more than its place does."""


def is_tree(row: Row) -> bool:
    """Return whether a row holds a first message with all replies to it."""
    first = row["prompt"]
    return isinstance(first, dict) and isinstance(first.get("text"), str) and isinstance(first.get("replies"), list)


def tree(located: Located) -> Iterator[RowParts | LeftOut]:
    """Read each message that assistants replied to as a prompt of its own, the replies as its responses.

    They stand as people ranked them (`rank` 0 is the best); where fewer than two were ranked nothing says which is
    better. A reply that is deleted or was rejected in review is left out with all that follows it.
    """
    found = 0
    waiting: list[tuple[Row, tuple[Message, ...]]] = [(located.row["prompt"], ())]
    while waiting:
        node, before = waiting.pop()
        path = (*before, _message(located.where, node))
        given = node.get("replies") or ()
        replies = [reply for reply in given if _usable(reply)]
        yield from [LeftOut("reply that was deleted or rejected in review")] * (len(given) - len(replies))
        waiting += [(reply, path) for reply in reversed(replies)]
        if path[-1].role == "user" and replies:
            yield _answered(located.where, path, replies, f"#{found}" if found else "")
            found += 1
    if not found:
        raise DroppedRow("a tree without replies")


def _answered(where: str, path: tuple[Message, ...], replies: list[Row], suffix: str) -> RowParts:
    ranks = [number(where, "rank", reply.get("rank")) for reply in replies]
    ranked = [i for i, rank in enumerate(ranks) if not math.isnan(rank)]
    kept = ranked if len(ranked) > 1 else list(range(len(replies)))
    ranking = rank_by_score([-ranks[i] for i in kept]) if len(ranked) > 1 else ()
    answers = [[_message(where, replies[i])] for i in kept]
    return RowParts(path, answers, {}, ranking, [str(replies[i].get("model_name") or "") for i in kept], suffix=suffix)


def _message(where: str, node: Any) -> Message:
    if not isinstance(node, dict) or not isinstance(node.get("text"), str):
        raise RowError(where, "a message of a tree has no text")
    role = ROLES.get(str(node.get("role")).lower())
    if role not in ("user", "assistant"):
        raise RowError(where, "a message of a tree is neither the prompter's nor the assistant's")
    return Message(role, node["text"].strip())


def _usable(node: Any) -> bool:
    return not isinstance(node, dict) or not (
        node.get("deleted") or node.get("review_result") is False or blank(str(node.get("text") or ""))
    )


def trees_of(rows: Iterable[Located]) -> Iterator[Located | RowError]:
    """Yield the trees of a file that has a row for each message, wherever its replies stand, at their first message.

    A message whose parent is nowhere in the file is a fault, and so is one that stands twice.
    """
    nodes: dict[str, Located] = {}
    for where, row in rows:
        name = str(row.get("message_id"))
        if name in nodes:
            yield RowError(where, "a message_id stands twice")
        else:
            nodes[name] = Located(where, {**row, "replies": []})
    first = []
    for name, located in nodes.items():
        parent = located.row.get("parent_id")
        if not parent:
            first.append(located)
        elif parent != name and parent in nodes:
            nodes[parent].row["replies"].append(located.row)
        else:
            yield RowError(located.where, "the parent of a message is not in the file")
    for where, node in first:
        yield Located(where, {"prompt": node})
