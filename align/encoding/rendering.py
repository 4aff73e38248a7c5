"""What every template offers: a prompt, the response that follows it, and a reason where it cannot write a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from align.errors import DataError, ModelError
from align.records import Message

LOST_THOUGHT = "with a thought that the template leaves out"


class Rendered(NamedTuple):
    """A prompt up to where the assistant begins, and the response text that follows it, both ready to tokenise."""

    prompt: str
    response: str
    notes: tuple[str, ...] = ()
    """What of the row is not in the text, for the report."""


class RowRefused(DataError):
    """A template cannot render this row; the row is dropped and the reason counted."""


class Template(ABC):
    """How messages become text, and which token ends a response."""

    eos_id: int
    jinja: str
    """A chat template that renders the same prompts."""
    adds_bos: bool
    """Whether the encoder puts a BOS in front (a chat template writes its own)."""
    parses_special: bool
    """Whether special tokens are written into the text by the template."""
    stop: tuple[str, ...] = ()
    """Texts that end a sampled response, beside `eos_id`."""
    told: tuple[str, ...] = ()
    """What a user should know of it."""
    fingerprint: str = "plain"
    """What decides the text of a dialogue."""

    @abstractmethod
    def prompt(self, messages: Sequence[Message], tools: str = "") -> str:
        """Return the text up to where the assistant begins to answer; `tools` is a JSON list of schemas."""

    @abstractmethod
    def render(self, messages: Sequence[Message], response: Message | str, tools: str = "") -> Rendered:
        """Return prompt and response text. Raises RowRefused where the template cannot."""

    def said(self, ids: Sequence[int], text: str) -> str:
        """Return what a sampled response says, as a row of data would say it.

        Decoding leaves special tokens out, and the thought and the answer that stand between them run into each other
        (`<|channel|>final<|message|>` of gpt-oss is `final` before every answer).

        Args:
            ids: Its tokens, the end included.
            text: The tokens decoded without special ones.
        """
        return text

    def regions(self, messages: Sequence[Message], tools: str, text: str) -> list[tuple[int, int]] | None:
        """Return which characters of a whole dialogue the template marks as generated.

        None where it marks nothing, or where its text does not begin with `text`, whose characters are meant.
        """
        return None


def as_answer(response: Message | str) -> Message:
    """Return a response as a turn."""
    return Message("assistant", response) if isinstance(response, str) else response


def require_eos(tokenizer: Any) -> int:
    """Return the tokenizer's end-of-sequence token. Raises ModelError without one."""
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end-of-sequence token: set eos_token in its tokenizer_config.json")
    return int(tokenizer.eos_token_id)
