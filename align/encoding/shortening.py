"""Making a dialogue shorter by whole turns and then inside its texts, so that a template's markup stays whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from align.encoding.encoded_candidate import Tokens
from align.encoding.rendering import RowRefused
from align.encoding.truncation import Truncation
from align.records import Example, Message

Messages = tuple[Message, ...]
Tokenize = Callable[[list[str]], list[Any]]
MARKUP = 32
"""Tokens that a turn may take beside its text; only how fast turns are dropped depends on it."""


def shorter(example: Example, tokens: Tokens, limit: int, rule: Truncation, tokenize: Tokenize) -> Example:
    """Return an example with shorter prompts: the oldest turns go first, then the start of a text.

    Args:
        example: What is too long.
        tokens: Its tokens.
        limit: The longest prompt wanted; one step may not get there.
        rule: The limits.
        tokenize: Gives the encodings of texts.

    Raises RowRefused where nothing can go.
    """
    found = []
    for prompt, messages in zip(tokens.prompts, example.contexts or (example.messages,), strict=False):
        excess, whole = len(prompt) - limit, tokens.length - rule.max_total
        new: Messages | None = messages
        if excess > 0:
            new = without_oldest(messages, max(excess, whole), tokenize) if rule.at_turn else None
            new = new or without_start(messages, excess, tokenize)
        if new is None:
            raise RowRefused("no room for the last turn beside the response")
        found.append(new)
    return replace(example, messages=found[0], contexts=tuple(found) if example.contexts else ())


def without_oldest(messages: Messages, excess: int, tokenize: Tokenize) -> Messages | None:
    """Return a dialogue without its first exchanges, None when one is left.

    Args:
        messages: A dialogue; system turns stay.
        excess: Tokens it is too long by. Fewer may go, but at least one exchange.
        tokenize: Gives the encodings of texts.
    """
    starts = [i for i, m in enumerate(messages) if m.role == "user"]
    if len(starts) < 2:
        return None
    sizes = [len(e.ids) + MARKUP for e in tokenize([m.content for m in messages])]
    first, gone = 1, 0
    for place in range(1, len(starts)):
        gone += sum(sizes[starts[place - 1] : starts[place]])
        first = place
        if gone >= excess:
            break
    system = tuple(m for m in messages[: starts[first]] if m.role == "system")
    return system + messages[starts[first] :]


def without_start(messages: Messages, excess: int, tokenize: Tokenize) -> Messages | None:
    """Return a dialogue without the first tokens of its longest text, None when no text can be shorter.

    It is what remains of the oldest turns: a prompt that is one question loses the start of the question, and a long
    system text never pushes the question out.
    """
    offsets = [e.offsets for e in tokenize([m.content for m in messages])]
    longest = max(range(len(messages)), key=lambda i: (len(offsets[i]), i))
    cut = min(excess, len(offsets[longest]) - 1)
    if cut < 1:
        return None
    turn = messages[longest]
    kept = turn.content[max(offsets[longest][cut][0], 1) :].lstrip()
    return (*messages[:longest], turn._replace(content=kept), *messages[longest + 1 :]) if kept else None


def fewest_turns(messages: Sequence[Message]) -> bool:
    """Tell whether no whole exchange can go."""
    return sum(m.role == "user" for m in messages) < 2
