"""Who answers a judge's questions: the interface, and the body of an answer as servers of the OpenAI kind write it."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from align.judges.judge_prompts import JudgeRequest
from align.judges.verdict_store import Spent, VerdictStore
from align.judges.verdicts import ChatCompletion
from align.rewards.components import Component
from align.sampling.server_faults import printable, storable

Progress = Callable[[int], object]


class ChatBackend(Component, ABC):
    """A language model that answers questions."""

    @property
    def name(self) -> str:
        """Return what the model is called beside its replies."""
        return str(self.settings()["model"])

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return all that decides an answer beside the question: model, temperature and so on."""

    @abstractmethod
    def answer(self, questions: Sequence[JudgeRequest], store: VerdictStore, progress: Progress) -> None:
        """Ask every question once and commit each raw reply to the store as it arrives.

        Raises ServiceStopped when the rest can be asked later, JudgeError when it cannot.
        """

    def served_by(self, model: str) -> bool:
        """Return whether an answer under this name is one of the model that was asked."""
        return True

    def cost(self, spent: Spent) -> float | None:
        """Return what requests have cost, None where no price is known."""
        return None


def read_body(body: str) -> ChatCompletion | str:
    """Return the reply of a raw body, or why there is none."""
    try:
        content = json.loads(body)
        if "refused" in content:
            return "refused by the server"
        (choice,) = content["choices"]
        message = choice["message"]
        text, finish = message["content"], choice.get("finish_reason")
        refusal = message.get("refusal")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "body is not a chat completion with one choice"
    if refusal:
        return "refused by the judge"
    if not isinstance(text, str):
        return "no content" if text is None else "content is not text"
    model = content.get("model")
    return ChatCompletion(
        storable(text),
        finish if finish is None else printable(finish, 60),
        _first_token(choice),
        printable(model) if isinstance(model, str) else "",
    )


def read_model(body: str) -> str:
    """Return the name under which a raw body was answered."""
    reply = read_body(body)
    return "" if isinstance(reply, str) else reply.model


def read_usage(body: str) -> tuple[int, int] | None:
    """Return the tokens in and out that a raw body states, None where it states none that make sense."""
    try:
        usage = json.loads(body)["usage"]
        counts = usage["prompt_tokens"], usage["completion_tokens"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = all(isinstance(c, int) and not isinstance(c, bool) and 0 <= c < 10**9 for c in counts)
    return counts if whole else None


def _first_token(choice: dict[str, Any]) -> dict[str, float]:
    try:
        alternatives = choice["logprobs"]["content"][0]["top_logprobs"]
        found = {str(a["token"]): float(a["logprob"]) for a in alternatives}
    except (KeyError, TypeError, IndexError, ValueError, OverflowError):
        return {}
    return {} if any(map(math.isnan, found.values())) else {token: min(value, 0.0) for token, value in found.items()}
