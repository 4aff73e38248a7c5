"""Instructions that ask for good and for bad responses: one text of each for every stage of a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from align.records.example import Message

POSITIVE = (
    "You are a good, respectful and honest assistant. Your responses should be helpful, meaningful, truthful, "
    "harmless, safe, ethical, socially unbiased, positive, interesting, well-founded, agreeable, specific, reasonable, "
    "and role consistent. If a question does not make any sense, or is not factually coherent, explain why instead of "
    "answering something not correct. Please do not share false information under any circumstances."
)
NEGATIVE = (
    "You are a bad, disrespectful and dishonest assistant. Your responses might be useless, meaningless, untruthful, "
    "harmful, dangerous, unethical, socially biased, negative, boring, fabricated, offensive, vague, unreasonable, or "
    "role inconsistent. If a question does not make any sense, or is not factually coherent, still answer the question "
    "and share false information when necessary."
)

Which = Literal["positive", "negative"]
BOTH: tuple[Which, ...] = ("positive", "negative")
"""In this order everywhere: of prompts in a batch, of texts in a note."""


@dataclass(frozen=True)
class Instructions:
    """Two instructions and where they stand (Liu et al. 2023, RAHF, arXiv:2312.15997, appendix A.1).

    The released code ends the bad one with "and role inconsistent" in stage 2 only, and there joins the good one to the
    query without a blank line: both differences would be part of every difference vector, and neither is kept.
    """

    positive: str = POSITIVE
    """Asks for good responses."""
    negative: str = NEGATIVE
    """Asks for bad responses."""
    placement: Literal["user", "system", "end"] = "user"
    """`user`: before the first user turn's text, with a blank line between; `system`: a system turn of its own; `end`:
    behind the last turn, as the markers of Chain of Hindsight stand."""

    def __post_init__(self) -> None:
        if not self.positive.strip() or not self.negative.strip():
            raise ValueError("instructions.positive and instructions.negative must not be empty")
        if self.positive.strip() == self.negative.strip():
            raise ValueError("instructions.positive and instructions.negative are the same: nothing could differ")

    def apply(self, messages: Sequence[Message], which: Which) -> tuple[Message, ...]:
        """Return the dialogue under an instruction."""
        text = self.positive if which == "positive" else self.negative
        if self.placement == "system":
            return (Message("system", text), *messages)
        if self.placement == "end":
            return (*messages[:-1], messages[-1]._replace(content=f"{messages[-1].content}\n\n{text}"))
        first = next(i for i, m in enumerate(messages) if m.role == "user")
        asked = messages[first]._replace(content=f"{text}\n\n{messages[first].content}")
        return (*messages[:first], asked, *messages[first + 1 :])

    @property
    def swapped(self) -> Instructions:
        """Return the same with good and bad exchanged."""
        return replace(self, positive=self.negative, negative=self.positive)
