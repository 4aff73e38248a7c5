"""What a sampled response says: its thought and its answer, out of the special tokens that stand around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from align.encoding.openings import PROBE, THOUGHT
from align.encoding.program import Program
from align.encoding.rendered import special_tokens
from align.encoding.rendering import RowRefused
from align.records import Message

_MATES = (
    (re.compile(r"<\|(\w+)>"), r"<\1|>"),  # Gemma 4
    (re.compile(r"<\|START_(\w+)\|>"), r"<|END_\1|>"),  # Command A
    (re.compile(r"<\|begin_of_(\w+)\|>"), r"<|end_of_\1|>"),
    (re.compile(r"\[(\w+)\]"), r"[/\1]"),  # Magistral
    (re.compile(r"<([\w:]+)>"), r"</\1>"),
)
"""Special tokens that open a thought, and those that close it."""
_LINE = "\n"
_LABEL = re.compile(r"thought\n")
"""What Gemma 4 writes first in a thought."""


@dataclass(frozen=True)
class Marks:
    """What a template writes before an answer; texts that are empty where it writes none."""

    lead: str
    """Before an answer without a thought."""
    opens: str
    """Before a thought."""
    closes: str
    """Between a thought and its answer."""
    inside: bool = True
    """Whether it finds a thought inside the content of a turn too; false for one that writes it as if it were said."""

    @classmethod
    def of(cls, program: Program, question: Sequence[Message], prompt: str, lead: str) -> Marks:
        """Return what a template writes, which is asked for a thought that is kept apart from its answer."""
        apart = Message("assistant", PROBE, reasoning_content=THOUGHT)
        inside = Message("assistant", _written(THOUGHT, PROBE))
        try:
            full, other = (program.render([*question, m], add_generation_prompt=False) for m in (apart, inside))
        except RowRefused:
            full = other = ""
        thought, answer = full.rfind(THOUGHT), full.rfind(PROBE)
        if not full.startswith(prompt) or not len(prompt) <= thought < answer:
            return cls(lead, "", "")
        alike = "".join(full.split()) == "".join(other.split())
        return cls(lead, full[len(prompt) : thought], full[thought + len(THOUGHT) : answer], alike)

    def said(self, tokenizer: Any, ids: Sequence[int], text: str) -> str:
        """Return what a response says, as a row of data does: a thought in `<think>` and `</think>`, and the answer.

        It is `text`, the tokens decoded without special ones, where no special token tells its parts apart.
        """
        special = special_tokens(tokenizer)
        raw = tokenizer.decode(ids, skip_special_tokens=False).lstrip()
        if not special.search(raw):
            return text
        opens, closes, lead = self.opens.strip(), self.closes.strip(), self.lead.strip()
        if not (closes and special.search(opens + closes) and raw.startswith(opens)):
            if lead and special.search(lead) and raw.startswith(lead):
                return special.sub("", raw[len(lead) :])
            opens, closes = _pair(raw, special)
        thought, closed, answer = raw[len(opens) :].rpartition(closes) if closes else ("", "", "")
        if closed:
            return _written(special.sub("", thought), special.sub("", answer))
        cut_off = opens and closes  # within the thought
        return f"<think>\n{special.sub('', answer).strip(_LINE)}" if cut_off else text


def typed(turn: Message) -> tuple[str, ...]:
    """Return the texts of a turn, in which no special token may stand, without the tags of a thought in its content."""
    content = turn.content
    if turn.role == "assistant" and "</think>" in content:
        content = content.lstrip().removeprefix("<think>").replace("</think>", "", 1)
    return content, turn.reasoning_content, turn.tool_calls


def thought_of(answer: Message) -> tuple[str, str]:
    """Return the thought of a turn, kept apart or inside its content, and the rest of the content."""
    if answer.reasoning_content:
        return answer.reasoning_content.strip("\n"), answer.content
    before, closing, after = answer.content.partition("</think>")
    if not closing:
        return "", answer.content
    return before.strip().removeprefix("<think>").strip("\n"), after.lstrip("\n")


def _pair(raw: str, special: re.Pattern[str]) -> tuple[str, str]:
    """Return the special tokens around the thought that a text begins with; empty ones where it begins with none."""
    first = special.match(raw)
    for form, mate in _MATES:
        if first and (found := form.fullmatch(first.group())) and special.fullmatch(close := found.expand(mate)):
            label = _LABEL.match(raw, first.end())
            return raw[: label.end() if label else first.end()], close
    return "", ""


def _written(thought: str, answer: str) -> str:
    """Return a thought and its answer as most templates write them; the answer alone where nothing was thought."""
    answer = answer.lstrip(_LINE)
    return f"<think>\n{thought.strip(_LINE)}\n</think>\n\n{answer}" if thought.strip() else answer
