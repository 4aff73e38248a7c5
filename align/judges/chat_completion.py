"""A language model's reply, and the body in which servers of the OpenAI kind send it."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from align.sampling.server_faults import printable, storable


class ChatCompletion(NamedTuple):
    """What a judge answered."""

    text: str
    finish_reason: str | None = "stop"
    logprobs: dict[str, float] = {}  # noqa: RUF012
    """Log-probabilities of the alternatives to the first token, where the server gives them."""
    model: str = ""
    """The name under which the server answered."""


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
