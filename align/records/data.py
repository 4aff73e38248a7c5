"""One record of data, and the names of what methods make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Role = Literal["system", "user", "assistant"]
ViewName = Literal[
    "pairs",
    "lists",
    "lists_by_reward",
    "lists_by_label",
    "best_by_reward",
    "singles",
    "worst",
    "either",
    "hindsight",
    "prompts",
    "regression",
    "unpaired",
]
"""What a method trains on; `align.data.views` and `align.data.scored_lists` make it."""
Preset = Literal["rahf", "pro", "dpo", "rm", "dpa"]
"""Limits on lengths by the method that made them usual; `align.encoding.truncation` holds them."""


class Message(NamedTuple):
    """One turn of a dialogue."""

    role: Role
    content: str


@dataclass(frozen=True)
class Example:
    """A prompt and what is known about its responses; views turn it into what one method trains on.

    `scores[response][attribute]` holds NaN where a label is missing. `ranking` lists groups of response indices, best
    group first; the indices inside one group are tied. A prompts-only example has no responses.
    """

    id: str
    messages: tuple[Message, ...]
    responses: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    scores: tuple[tuple[float, ...], ...] = ()
    ranking: tuple[tuple[int, ...], ...] = ()
    origins: tuple[str, ...] = ()
    weight: float = 1.0
    user: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.messages or self.messages[-1].role != "user":
            raise ValueError(f"example {self.id}: the messages must end with a user turn")
        if self.scores and len(self.scores) != len(self.responses):
            raise ValueError(f"example {self.id}: {len(self.scores)} score rows for {len(self.responses)} responses")
        if any(len(row) != len(self.attributes) for row in self.scores):
            raise ValueError(f"example {self.id}: attributes {self.attributes} do not name the columns of its scores")

    @property
    def ranks(self) -> tuple[int, ...]:
        """Return the rank of each response, 0 the best; tied responses share one. Empty without a ranking."""
        level = {index: rank for rank, group in enumerate(self.ranking) for index in group}
        return tuple(level[i] for i in range(len(self.responses))) if self.ranking else ()


class PromptFormat(NamedTuple):
    """How prompts were written in training, so that an artefact is prompted and stopped the same way."""

    eos_id: int
    """The token that ends a response."""
    chat_template: str
    """A Jinja template that renders the same prompts."""
