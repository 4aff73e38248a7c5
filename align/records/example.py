"""One record of data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Role = Literal["system", "user", "assistant", "tool"]
ASKING: tuple[Role, ...] = ("user", "tool")
"""Turns that an assistant answers; a prompt ends with one of them."""


class Message(NamedTuple):
    """One turn of a dialogue, hashable."""

    role: Role
    content: str
    reasoning_content: str = ""
    """A thought before the content."""
    tool_calls: str = ""
    """The calls as a JSON list, arguments as objects."""
    tool_call_id: str = ""
    """Which call the turn answers."""
    name: str = ""
    """Who speaks, or which function answers."""
    weight: float = 1.0
    """How much an assistant turn counts in training; 0 leaves it out."""

    @classmethod
    def of(cls, turn: Mapping[str, Any]) -> Message:
        """Return the message that `as_turn` wrote."""
        calls = turn.get("tool_calls")
        return cls(**{**turn, "tool_calls": json.dumps(calls) if calls else ""})

    def as_turn(self) -> dict[str, Any]:
        """Return the mapping chat templates and files take: role, content, and what else the turn holds."""
        more = {name: value for name, value in self._asdict().items() if value != Message._field_defaults.get(name)}
        calls = {"tool_calls": json.loads(self.tool_calls)} if self.tool_calls else {}
        return {"role": self.role, "content": self.content, **more, **calls}


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
    answers: tuple[Message, ...] = ()
    """The responses as turns where one of them is more than its text: calls a tool, has a thought, counts otherwise."""
    contexts: tuple[tuple[Message, ...], ...] = ()
    """A prompt per response, where dialogues differ before the last turn; otherwise all have `messages`."""
    tools: str = ""
    """Functions that may be called, as a JSON list of schemas; with settings of the row, as `Beside` writes both."""
    whole: bool = False
    """A dialogue to learn from as a whole: its earlier assistant turns are examples too, not context alone."""
    among: bool = False
    """One of several examples of a row: that a method cannot use it is no fault of the data."""
    response_ids: tuple[tuple[int, ...], ...] = ()
    """The responses as the tokens a policy drew, their end included where it drew one; none where only texts count."""
    engine_logprobs: tuple[tuple[float, ...], ...] = ()
    """Of the tokens of `response_ids`, as another engine than ours told them, NaN where it told none."""
    kept_columns: str = ""
    """Columns of its row that reward functions read, as a JSON object; null stands for one that the row leaves out."""

    def __post_init__(self) -> None:
        for messages in (self.messages, *self.contexts):
            if not messages or messages[-1].role not in ASKING:
                raise ValueError(f"example {self.id}: the messages must end with a user turn")
        if self.scores and len(self.scores) != len(self.responses):
            raise ValueError(f"example {self.id}: {len(self.scores)} score rows for {len(self.responses)} responses")
        beside = {"answers": self.answers, "contexts": self.contexts, "response_ids": self.response_ids}
        beside["engine_logprobs"] = self.engine_logprobs
        for name, found in beside.items():
            if found and len(found) != len(self.responses):
                raise ValueError(f"example {self.id}: {len(found)} {name} for {len(self.responses)} responses")
        if any(len(row) != len(self.attributes) for row in self.scores):
            raise ValueError(f"example {self.id}: attributes {self.attributes} do not name the columns of its scores")

    @property
    def kept(self) -> dict[str, Any]:
        """Return the columns that were kept, by name."""
        return dict(json.loads(self.kept_columns)) if self.kept_columns else {}

    @property
    def ranks(self) -> tuple[int, ...]:
        """Return the rank of each response, 0 the best; tied responses share one. Empty without a ranking."""
        level = {index: rank for rank, group in enumerate(self.ranking) for index in group}
        return tuple(map(level.__getitem__, range(len(self.responses)))) if self.ranking else ()

    def context(self, response: int) -> tuple[Message, ...]:
        """Return the prompt of a response."""
        return self.contexts[response] if self.contexts else self.messages

    @property
    def turns(self) -> tuple[Message, ...]:
        """Return the responses as turns."""
        return self.answers or tuple([Message("assistant", response) for response in self.responses])

    def answer(self, response: int) -> Message:
        """Return a response as a turn."""
        return self.answers[response] if self.answers else Message("assistant", self.responses[response])


class PromptFormat(NamedTuple):
    """How prompts were written in training, so that an artefact is prompted and stopped the same way."""

    eos_id: int
    """The token that ends a response."""
    chat_template: str
    """A Jinja template that renders the same prompts."""
