"""What a server of the OpenAI kind answers to one request, as it is read from its body."""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

from align.errors import ModelError
from align.sampling.generation import Finish
from align.sampling.server_faults import printable

Api = Literal["completions", "chat"]


class ServedAnswer(NamedTuple):
    """The first choice of an answer."""

    model: str
    """Which model answered, in the server's words."""
    text: str
    choice: dict[str, Any]
    usage: dict[str, Any]

    @property
    def finish(self) -> Finish:
        """Return what ended it; some servers say which stop string it was, most leave out what it was."""
        stopped = isinstance(self.choice.get("stop_reason"), str)
        return "length" if self.choice.get("finish_reason") == "length" else "stop" if stopped else "eos"


def read_answer(body: str, place: str, api: Api) -> ServedAnswer:
    """Return what a body holds. Raises ModelError, beginning with `place`, for one that holds no completion."""
    try:
        answer = json.loads(body)
        served, choices = str(answer.get("model")), answer["choices"]
        choice = choices[0] if choices else None
        text = choice and (choice["message"]["content"] if api == "chat" else choice["text"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{place}: an answer that is no completion ({printable(body, 80)})") from error
    if choice is None:
        raise ModelError(f"{place}: an answer without a choice")
    if not isinstance(text, str):
        raise ModelError(f"{place}: an answer without text")
    usage = answer.get("usage")
    return ServedAnswer(served, text, choice, usage if isinstance(usage, dict) else {})
