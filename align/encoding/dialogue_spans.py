"""Which parts of a whole dialogue are learnt: every assistant turn, as generation would write it there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from align.encoding.rendering import Rendered, RowRefused, Template
from align.records import Message

UNSCORED = "with an earlier turn that is not scored: the template writes it otherwise once the dialogue goes on"


class Span(NamedTuple):
    """Characters of a text that are scored, and how much they count."""

    start: int
    end: int
    weight: float


class Dialogue(NamedTuple):
    """A dialogue as text, cut where the first scored turn begins."""

    rendered: Rendered
    spans: tuple[Span, ...]
    """In characters of prompt and response; one that holds the character behind them holds the end of the turn."""


def whole_dialogue(
    template: Template, messages: Sequence[Message], answer: Message, tools: str, turn_end: str
) -> Dialogue:
    """Return a dialogue with its scored turns. Raises RowRefused where none is left to learn from.

    Args:
        template: How it is written.
        messages: The turns before the last.
        answer: The last turn.
        tools: What may be called.
        turn_end: The text of the token that ends a turn.
    """
    learnt = [i for i, m in enumerate((*messages, answer)) if m.role == "assistant" and m.weight > 0]
    if not learnt:
        raise RowRefused("no turn to train on")
    if learnt[-1] < len(messages):
        messages, answer = messages[: learnt[-1]], messages[learnt[-1]]
    rendered = template.render(messages, answer, tools)
    text = rendered.prompt + rendered.response
    marked = template.regions([*messages, answer], tools, text)
    if marked is None:
        spans, notes = _as_generated(template, messages, tools, text, turn_end)
        spans.append(Span(len(rendered.prompt), len(text) + 1, answer.weight))
    else:
        spans, notes = _as_marked(template, [*messages, answer], tools, text=text, marked=marked, turn_end=turn_end), ()
    first = min([len(rendered.prompt), *(span.start for span in spans)])
    return Dialogue(Rendered(text[:first], text[first:], (*rendered.notes, *notes)), tuple(spans))


def _as_marked(
    template: Template,
    messages: Sequence[Message],
    tools: str,
    *,
    text: str,
    marked: Sequence[tuple[int, int]],
    turn_end: str,
) -> list[Span]:
    """Return the blocks that the template marks, weighted by their turns.

    Of a block that holds a whole turn only what is generated counts: not the header, nor what stands behind its end.
    """
    turns = [i for i, m in enumerate(messages) if m.role == "assistant"]
    if len(turns) != len(marked):
        if any(messages[i].weight != 1 for i in turns):
            raise RowRefused("turn weights with a template that does not mark one block per turn")
        return [Span(start, end, 1.0) for start, end in marked]
    spans = []
    for i, (start, end) in zip(turns, marked, strict=True):
        prompt = template.prompt(messages[:i], tools) if messages[i].weight > 0 else ""
        start = len(prompt) if prompt and text.startswith(prompt) and start < len(prompt) < end else start
        stop = text.find(turn_end, start, end) if turn_end else -1
        spans.append(Span(start, end if stop < 0 else stop + len(turn_end), messages[i].weight))
    return [span for span in spans if span.weight > 0]


def _as_generated(
    template: Template, messages: Sequence[Message], tools: str, text: str, turn_end: str
) -> tuple[list[Span], tuple[str, ...]]:
    """Return the earlier assistant turns that stand in the text as they would be generated, and a note on others."""
    spans, missed = [], False
    for i, message in enumerate(messages):
        if message.role != "assistant" or message.weight == 0:
            continue
        try:
            alone = template.render(messages[:i], message, tools)
        except RowRefused:  # two assistant turns in a row, and the like
            missed = True
            continue
        start, end = len(alone.prompt), len(alone.prompt) + len(alone.response)
        if text.startswith(alone.prompt + alone.response):
            end += len(turn_end) if text.startswith(turn_end, end) else 0
            spans.append(Span(start, end, message.weight))
        else:
            missed = True
    return spans, (UNSCORED,) if missed else ()
