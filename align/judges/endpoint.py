"""A judge behind an HTTP interface of the OpenAI kind: a hosted one, vLLM, llama.cpp, Ollama."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from align.errors import ConfigError, JudgeError
from align.judges.chat_backend import ChatBackend, Progress
from align.judges.chat_completion import read_body, read_usage
from align.judges.connection import Connection
from align.judges.judge_prompts import JudgeRequest
from align.judges.verdict_store import Spent, VerdictStore
from align.sampling.server_faults import advice
from align.sampling.service_key import check_address, read_key
from align.sampling.wire import Refused, RetryPolicy, ServiceStopped, Transient

OURS = ("messages", "model", "temperature", "max_tokens", "max_completion_tokens", "stream", "n")
"""Fields of a request that `extra` must not set."""


@dataclass(frozen=True)
class Budget:
    """What the judge may spend, over all runs that use the same store; null is without limit."""

    requests: int | None = None
    """Requests, those sent again included."""
    tokens: int | None = None
    """Tokens in and out. Before a request, a third of its characters and the longest reply are set aside."""
    input_price: float | None = None
    """Price of a million tokens in, to show the cost."""
    output_price: float | None = None
    """Price of a million tokens out."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value >= 0:
                raise ConfigError(f"budget.{name} must not be negative, got {value}")


@dataclass(frozen=True)
class Endpoint(ChatBackend):
    """Asks a server at BASE_URL/chat/completions. Redirects are not followed, so the key stays with that host."""

    base_url: str
    """Such as https://api.openai.com/v1 or http://localhost:8000/v1."""
    model: str
    """The model to ask for; give a dated name where there is one."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The name of the environment variable that holds the key, never the key; null sends none."""
    temperature: float = 0.0
    """Of the judge."""
    max_tokens: int = 512
    """Longest reply."""
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the longest reply."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the request, such as {seed: 0}."""
    served_as: str | None = None
    """The name the server answers under, where it neither is nor begins with that of the model."""
    concurrency: int = 8
    """Requests at a time."""
    budget: Budget = Budget()
    """What may be spent."""
    patience: RetryPolicy = field(default_factory=RetryPolicy)
    """How long to wait."""

    def __post_init__(self) -> None:
        check_address(self.base_url, self.api_key_env)
        if self.concurrency < 1 or self.max_tokens < 1 or not self.temperature >= 0:
            raise ConfigError("concurrency and max_tokens must be at least 1, and temperature not negative")
        if taken := [name for name in self.extra if name in OURS]:
            raise ConfigError(f"extra must not set {taken[0]!r}, which has a setting of its own or is not for a judge")

    def settings(self) -> dict[str, Any]:
        """Return what decides an answer."""
        fields = {"temperature": self.temperature, self.limit_field: self.max_tokens, **self.extra}
        return {"base_url": self.base_url.rstrip("/"), "model": self.model, "fields": fields}

    def settings_of_fields(self) -> dict[str, str]:
        """Return what to change where a server does not take a field."""
        other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[self.limit_field]
        found = {name: f"leave out extra.{name}" for name in self.extra}
        return {**found, self.limit_field: f"set limit_field {other}", "temperature": "set temperature 1"}

    def served_by(self, model: str) -> bool:
        """Return whether the name is that asked for, or one that begins with it, such as a dated one."""
        return model == self.served_as if self.served_as else model.startswith(self.model)

    def cost(self, spent: Spent) -> float | None:
        """Return the cost by the prices of the budget."""
        if self.budget.input_price is None or self.budget.output_price is None:
            return None
        return (spent.input_tokens * self.budget.input_price + spent.output_tokens * self.budget.output_price) / 1e6

    def ready(self) -> None:
        """Raise ConfigError where the key is missing."""
        self.key()

    def key(self) -> str | None:
        """Return the key. Raises ConfigError where the variable is not set."""
        return read_key(self.api_key_env, "judge")

    def answer(self, questions: Sequence[JudgeRequest], store: VerdictStore, progress: Progress) -> None:
        """Ask all questions, several at a time."""
        asyncio.run(_Round(self, store, progress).run(questions))


class _Round:
    """One pass over a list of questions. The first one that cannot be answered stops the rest; none is cut off."""

    def __init__(self, endpoint: Endpoint, store: VerdictStore, progress: Progress) -> None:
        self.endpoint, self.store, self.progress = endpoint, store, progress
        self.stopped = asyncio.Event()
        self.fault: Exception | None = None

    async def run(self, questions: Sequence[JudgeRequest]) -> None:
        queue = iter(questions)
        settings = self.endpoint
        together = min(settings.concurrency, len(questions))
        connection = Connection(settings.base_url, settings.key(), settings.patience, self.stopped, together)
        async with connection:
            await asyncio.gather(*(self._work(queue, connection) for _ in range(together)))
        if self.fault is not None:
            raise self.fault

    async def _work(self, queue: Any, connection: Connection) -> None:
        for question in queue:
            try:
                await self._ask(question, connection)
            except Refused as error:
                hint = advice(str(error), self.endpoint.settings_of_fields()) if error.status in (400, 422) else ""
                self._stop(JudgeError(f"judge {self.endpoint.model}: {error}{hint}"))
            except Exception as error:  # told to the caller once all requests under way have ended
                self._stop(error)
            if self.stopped.is_set():
                return

    def _stop(self, error: Exception) -> None:
        self.fault = self.fault or error
        self.stopped.set()

    async def _ask(self, question: JudgeRequest, connection: Connection) -> None:
        settings, sent = self.endpoint, None
        messages = [{"role": m.role, "content": m.content} for m in question.messages]
        fields = settings.settings()["fields"]
        if question.choices:  # the first token alone is read
            fields = {"logprobs": True, "top_logprobs": 20, **fields, settings.limit_field: 1}
        body = {"model": settings.model, "messages": messages, **fields}

        async def once(seconds: float) -> str:
            nonlocal sent
            if self.stopped.is_set():
                raise ServiceStopped("another question stopped the run")
            sent = self._reserve(question)
            try:
                return await connection.ask(body, seconds)
            except (Transient, Refused, ServiceStopped) as error:
                self.store.failed(sent, str(error))
                raise

        text = await connection.patiently(once)
        self.store.answered(sent, question.key, text, read_usage(text))
        self.progress(0 if isinstance(read_body(text), str) else 1)

    def _reserve(self, question: JudgeRequest) -> int:
        budget = self.endpoint.budget
        tokens = sum(len(m.content) for m in question.messages) // 3 + self.endpoint.max_tokens
        request = self.store.reserve(question.key, tokens, max_requests=budget.requests, max_tokens=budget.tokens)
        if request is None:
            spent = self.store.spent()
            raise ServiceStopped(
                f"the budget is used up ({spent.requests:,} requests and {spent.tokens:,} tokens spent or set aside; "
                f"budget.requests {budget.requests}, budget.tokens {budget.tokens})"
            )
        return request
