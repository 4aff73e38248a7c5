"""An engine behind an HTTP interface of the OpenAI kind: vLLM, SGLang, llama.cpp, a hosted one."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from align.errors import ConfigError, ModelError, Paused
from align.records import Beside
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation, Job, Request, sample_key
from align.sampling.served_answer import Api, read_answer
from align.sampling.server_faults import advice, printable, storable
from align.sampling.service_key import check_address, read_key
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.wire import Refused, RetryPolicy, ServiceStopped, Wire

OURS = ("model", "prompt", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "n", "stream")
"""Fields of a request that `extra` must not set."""
ALIKE = 16
"""Samples that repeat the one before them, from which on that is told."""
SAMPLES = "(that of transformers needs do_sample in the model's generation_config.json)"


@dataclass(frozen=True)
class Server:
    """A server that completes prompts."""

    base_url: str
    """Such as http://localhost:8000/v1."""
    model: str
    """The model to ask for; the server must answer under this name, or one that begins with it."""
    api: Api = "completions"
    """`completions` sends token ids, prompts exactly as ours; `chat` sends messages, which the server writes."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; null sends none."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """What a server that writes the prompts gives its chat template, as vLLM and SGLang take it."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of a request. A vLLM server takes what a request leaves open from the model's own
    generation_config.json (top_k, min_p, repetition_penalty), so that samples are not of the model alone: start it with
    `--generation-config vllm`, or set {top_k: -1, min_p: 0, repetition_penalty: 1}."""
    concurrency: int = 8
    """Requests at a time."""
    timeout: float = 600.0
    """Seconds for one answer."""
    deadline: float = 900.0
    """Seconds for one sample with all retries; then the run pauses."""

    def __post_init__(self) -> None:
        check_address(self.base_url, self.api_key_env)
        if self.chat_template_kwargs and self.api != "chat":
            raise ConfigError(
                "chat_template_kwargs is for a server that writes the prompts: api `chat`, or leave it out"
            )
        if taken := [name for name in self.extra if name in OURS]:
            raise ConfigError(f"extra must not set {taken[0]!r}, which has a setting of its own")
        if self.concurrency < 1 or not 0 < self.timeout <= self.deadline:
            raise ConfigError("concurrency must be at least 1, and timeout positive and at most deadline")

    def settings_of_fields(self) -> dict[str, str]:
        """Return what to change where a server does not take a field."""
        found = {name: f"leave out extra.{name}" for name in self.extra}
        if self.chat_template_kwargs:
            found["chat_template_kwargs"] = "leave it out, or update the server"
        return found

    def key(self) -> str | None:
        """Return the key. Raises ConfigError where the variable is not set."""
        return read_key(self.api_key_env, "server")

    def patience(self) -> RetryPolicy:
        """Return how long to wait."""
        return RetryPolicy(self.timeout, self.deadline)


class HTTPEngine(Engine):
    """Asks for every sample by itself, with a seed of its own; servers that keep prefixes compute a prompt once."""

    def __init__(self, server: Server, tokenizer: Any, eos_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        self.server, self.ends = server, StopCriteria(tokenizer, eos_ids, stop)
        self._key = server.key()
        self._alike: int | None = (
            0  # samples equal to the one before; None once a server is known to draw, or was told of
        )

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job.

        Raises Paused when the server does not answer, ModelError when another model does or the request is refused.
        """
        numbered = [(job.request, number) for job in jobs for number in job.numbers]
        keys = [sample_key(settings.seed, round_number, request.id, number) for request, number in numbered]
        bodies = [self._body(request, key, settings) for (request, _), key in zip(numbered, keys, strict=True)]
        answers = iter(asyncio.run(self._all(bodies)))
        found = [[self._completion(next(answers)) for _ in job.numbers] for job in jobs]
        if settings.temperature > 0:
            self._tell_alike([one.text == other.text for samples in found for one, other in pairwise(samples)])
        return found

    def _tell_alike(self, alike: list[bool]) -> None:
        """Warn once where every sample of each prompt is the same: some servers take a temperature and draw nothing."""
        if self._alike is None or not all(alike):
            self._alike = None
            return
        self._alike += len(alike)
        if self._alike >= ALIKE:
            warnings.warn(
                f"server {self.server.base_url}: {self._alike} samples at a temperature above 0 are each the same as "
                f"the one before of their prompt: it may draw nothing {SAMPLES}",
                stacklevel=2,
            )
            self._alike = None

    async def _all(self, bodies: list[dict[str, Any]]) -> list[str]:
        """Ask for all, several at a time; the first that fails ends the others."""
        server, stopped = self.server, asyncio.Event()
        free = asyncio.Semaphore(server.concurrency)
        path = "/chat/completions" if server.api == "chat" else "/completions"
        async with Wire(server.base_url, self._key, server.patience(), stopped, server.concurrency) as wire:

            async def ask(body: dict[str, Any]) -> str:
                async with free:
                    return await wire.patiently(lambda seconds: wire.post(path, body, seconds))

            try:
                async with asyncio.TaskGroup() as group:
                    asked = [group.create_task(ask(body)) for body in bodies]
            except ExceptionGroup as errors:
                raise self._told(errors.exceptions[0]) from None
        return [task.result() for task in asked]

    def _told(self, error: Exception) -> Exception:
        if isinstance(error, ServiceStopped):
            return Paused(
                f"server {self.server.base_url} does not answer ({error}): give the same command again once it does"
            )
        if not isinstance(error, Refused):
            return error
        hint = advice(str(error), self.server.settings_of_fields()) if error.status in (400, 422) else ""
        ids = ": one that takes no token ids is asked by api `chat`" if self._sends_ids(error) else ""
        return ModelError(f"server {self.server.base_url} refuses: {error}{hint or ids}")

    def _sends_ids(self, error: Refused) -> bool:
        return self.server.api == "completions" and error.status in (400, 422)

    def _body(self, request: Request, key: int, settings: Generation) -> dict[str, Any]:
        server = self.server
        common = {
            "model": server.model,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens,
            "seed": key % 2**31,
            **({"stop": list(self.ends.stop)} if self.ends.stop else {}),
            **server.extra,
        }
        if server.api == "completions":
            return {"prompt": list(request.ids), **common}
        if not request.messages:
            raise ConfigError("api `chat` needs prompts as messages, these are token ids: use api `completions`")
        tools, own = Beside.of(request.tools)
        if tools:
            raise ConfigError(
                "api `chat` keeps calls of tools apart from the text, and a prompt has tools: use api `completions`"
            )
        turns = [m._replace(weight=1.0).as_turn() for m in request.messages]
        given = {**server.chat_template_kwargs, **own}
        return {"messages": turns, **common, **({"chat_template_kwargs": given} if given else {})}

    def _completion(self, body: str) -> Completion:
        """Read an answer; servers leave out what ended it."""
        place = f"server {self.server.base_url}"
        answer = read_answer(body, place, self.server.api)
        if not answer.model.startswith(self.server.model):
            raise ModelError(f"{place}: asked for {self.server.model}, {printable(answer.model)!r} answered")
        return self.ends.of_text(storable(answer.text), answer.finish)
