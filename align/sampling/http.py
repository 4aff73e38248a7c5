"""An engine behind an HTTP interface of the OpenAI kind: vLLM, SGLang, llama.cpp, a hosted one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import openai
import tenacity

from align.errors import ConfigError, ModelError, Paused, shorten
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Finish, Generation, Job, Request, sample_key
from align.sampling.stopping import Ends

PASSING = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, openai.ConflictError)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Server:
    """A server that completes prompts."""

    base_url: str
    """Such as http://localhost:8000/v1."""
    model: str
    """The model to ask for; the server must answer under this name, or one that begins with it."""
    api: Literal["completions", "chat"] = "completions"
    """`completions` sends token ids, prompts exactly as ours; `chat` sends messages, which the server writes."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; null sends none."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """What a server that writes the prompts gives its chat template, as vLLM and SGLang take it."""
    concurrency: int = 8
    """Requests at a time."""
    timeout: float = 600.0
    """Seconds for one answer."""
    deadline: float = 900.0
    """Seconds for one sample with all retries; then the run pauses."""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username:
            raise ConfigError(f"base_url {url.scheme}://{url.hostname}: expected http(s)://HOST/PATH without a user")
        if url.scheme == "http" and url.hostname not in LOOPBACK and self.api_key_env is not None:
            raise ConfigError(
                f"base_url http://{url.hostname}: a key would travel unprotected: api_key_env null or https"
            )
        if self.chat_template_kwargs and self.api != "chat":
            raise ConfigError(
                "chat_template_kwargs is for a server that writes the prompts: api `chat`, or leave it out"
            )
        if self.concurrency < 1 or not 0 < self.timeout <= self.deadline:
            raise ConfigError("concurrency must be at least 1, and timeout positive and at most deadline")

    def key(self) -> str:
        """Return the key. Raises ConfigError where the variable is not set."""
        if self.api_key_env is None:
            return "none"
        if not (value := os.environ.get(self.api_key_env, "").strip()):
            raise ConfigError(f"environment variable {self.api_key_env} is not set: it must hold the server's key")
        return value


class HTTPEngine(Engine):
    """Asks for every sample by itself, with a seed of its own; servers that keep prefixes compute a prompt once."""

    def __init__(self, server: Server, tokenizer: Any, eos_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        self.server, self.ends = server, Ends(tokenizer, eos_ids, stop)
        self._client = openai.OpenAI(
            base_url=server.base_url, api_key=server.key(), max_retries=0, timeout=server.timeout
        )

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job.

        Raises Paused when the server does not answer, ModelError when another model does or the request is refused.
        """
        with ThreadPoolExecutor(self.server.concurrency) as pool:

            def ask(job: Job, number: int) -> Future[Completion]:
                key = sample_key(settings.seed, round_number, job.request.id, number)
                return pool.submit(self._one, job.request, key, settings)

            waiting = [[ask(job, number) for number in job.numbers] for job in jobs]
            try:
                return [[future.result() for future in row] for row in waiting]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, request: Request, key: int, settings: Generation) -> Completion:
        ask = self._chat if self.server.api == "chat" else self._complete
        common = {
            "model": self.server.model,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens,
            "seed": key % 2**31,
            "stop": list(self.ends.stop) or None,
        }
        answer = self._patiently(lambda: ask(request, common))
        served = str(getattr(answer, "model", ""))
        if not served.startswith(self.server.model):
            raise ModelError(f"server {self.server.base_url}: asked for {self.server.model}, {served!r} answered")
        if not answer.choices:
            raise ModelError(f"server {self.server.base_url}: an answer without a choice")
        return self._completion(answer.choices[0])

    def _complete(self, request: Request, common: dict[str, Any]) -> Any:
        return self._client.completions.create(prompt=list(request.ids), **common)

    def _chat(self, request: Request, common: dict[str, Any]) -> Any:
        if not request.messages:
            raise ConfigError("api `chat` needs prompts as messages, these are token ids: use api `completions`")
        if request.tools:
            raise ConfigError(
                "api `chat` keeps calls of tools apart from the text, and a prompt has tools: use api `completions`"
            )
        turns: Any = [m._replace(weight=1.0).as_turn() for m in request.messages]
        own = {"chat_template_kwargs": self.server.chat_template_kwargs} if self.server.chat_template_kwargs else None
        return self._client.chat.completions.create(messages=turns, extra_body=own, **common)

    def _completion(self, choice: Any) -> Completion:
        """Read an answer; servers leave out what ended it, and some say which stop string it was."""
        text = choice.message.content if self.server.api == "chat" else choice.text
        if not isinstance(text, str):
            raise ModelError(f"server {self.server.base_url}: an answer without text")
        stopped = isinstance(getattr(choice, "stop_reason", None), str)
        finish: Finish = "length" if choice.finish_reason == "length" else "stop" if stopped else "eos"
        return self.ends.of_text(text, finish)

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Retry what may pass, waiting as the server asks or ever longer."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(PASSING),
            wait=_wait,
            stop=tenacity.stop_before_delay(self.server.deadline),
            reraise=True,
        )
        try:
            return retrying(ask)
        except PASSING as error:
            raise Paused(
                f"server {self.server.base_url} does not answer ({self._clean(error)}): what was drawn before is kept; "
                "give the same command again once it does"
            ) from None
        except openai.APIError as error:
            raise ModelError(f"server {self.server.base_url} refuses: {self._clean(error)}") from None

    def _clean(self, error: Exception) -> str:
        return shorten(error, 160).replace(self._client.api_key, "[key]")


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds the server asked for, else a random time that grows."""
    error = state.outcome.exception() if state.outcome else None
    response = getattr(error, "response", None)
    asked = response.headers.get("retry-after") if response is not None else None
    try:
        return max(float(asked), 0.0) if asked else min(2.0**state.attempt_number / 4, 60) * random.random()
    except ValueError:
        return 1.0
