"""One HTTP connection to a server of the OpenAI kind: what is retried, what is not, and how long one waits."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import tenacity

from align.errors import ConfigError, shorten
from align.oracles.responder import ServiceStopped, read_error

MAX_BODY = 4_000_000
QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")
ONE_ITEM = ("context_length_exceeded", "content_filter", "content_policy_violation", "string_above_max_length")
"""Codes of a 400 that concern one question alone."""


class Transient(Exception):
    """A fault that may pass; `after` is how long the server asks to wait, in seconds."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Refused(Exception):
    """A fault that will not pass."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a service, in seconds."""

    timeout: float = 120.0
    """For one answer, whole."""
    deadline: float = 900.0
    """For one question with all its retries, waits included; the run then stops and may be started again."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= self.deadline:
            raise ConfigError(f"timeout must be positive and at most deadline, got {self.timeout}, {self.deadline}")


class Connection:
    """Sends chat requests. The key is read from the environment by the caller and taken out of all that is kept."""

    def __init__(self, base_url: str, key: str | None, patience: Patience, stopped: asyncio.Event) -> None:
        self._key, self._patience, self._stopped = key, patience, stopped
        self._http = httpx2.AsyncClient(
            follow_redirects=False,
            timeout=patience.timeout,
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [_limit_size]},
        )
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=key or "none", max_retries=0, http_client=self._http
        )

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(self, body: dict[str, Any]) -> str:
        """Return the raw body of an answer, or of an error that concerns this question alone.

        Raises Transient, Refused, or ServiceStopped when the quota is used up.
        """
        try:
            async with asyncio.timeout(self._patience.timeout):
                response = await self._client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            return self._status(error.response)
        except (TimeoutError, openai.APITimeoutError) as error:
            raise Transient(f"no whole answer within {self._patience.timeout:g} s") from error
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise Transient(self._clean(f"connection failed ({shorten(error.__cause__ or error, 100)})")) from error
        return self._answer(response)

    def _answer(self, response: httpx2.Response) -> str:
        text = self._clean(response.text)
        fault = read_error(text)
        if fault is not None:
            self._check_quota(fault)
            raise Transient(f"an error in place of an answer ({shorten(fault.get('message', ''), 100)})")
        return text

    def _status(self, response: httpx2.Response) -> str:
        code, text = response.status_code, self._clean(response.text)
        fault = read_error(text) or {}
        said = shorten(fault.get("message") or "", 160)
        detail = f"status {code}" + (f", {said}" if said else "")
        self._check_quota(fault)
        if code == 402:
            raise ServiceStopped(f"the service wants payment ({detail})")
        if code in (408, 409, 425, 429) or code >= 500:
            raise Transient(detail, _retry_after(response.headers))
        if code in (400, 413) and (code == 413 or fault.get("code") in ONE_ITEM):
            return json.dumps({"refused": detail})
        if 300 <= code < 400:
            raise Refused(f"status {code}: redirects are not followed, so that the key stays with its host")
        hint = {401: ": the key is not accepted", 403: ": the key may not do this", 404: ": check base_url and model"}
        raise Refused(detail + hint.get(code, ""))

    def _check_quota(self, fault: dict[str, Any]) -> None:
        if fault.get("code") in QUOTA or fault.get("type") in QUOTA:
            raise ServiceStopped(f"the quota of the service is used up ({shorten(fault.get('message', ''), 100)})")

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    async def with_retries(self, call: Callable[[], Awaitable[str]]) -> str:
        """Call until it succeeds, waiting as the server asks or ever longer, up to the deadline."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Transient),
            wait=_wait,
            stop=tenacity.stop_any(
                tenacity.stop_before_delay(self._patience.deadline),
                tenacity.stop_when_event_set(self._stopped),  # type: ignore[arg-type]
            ),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return await retrying(call)
        except Transient as error:
            raise ServiceStopped(f"the service does not answer: {error}") from error

    async def _sleep(self, seconds: float) -> None:
        """Wait, but no longer than until another question has stopped the run."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return


_backoff = tenacity.wait_random_exponential(multiplier=0.5, max=60)


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    after = error.after if isinstance(error, Transient) else None
    return _backoff(state) if after is None else after


def _retry_after(headers: Any) -> float | None:
    """Return the seconds a server asks to wait, as a number or until a date; None where it says nothing readable."""
    value = headers.get("retry-after")
    try:
        return max(float(value), 0.0) if value else None
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None


async def _limit_size(response: httpx2.Response) -> None:
    response.stream = _Limited(response.stream)  # type: ignore[arg-type]


class _Limited(httpx2.AsyncByteStream):
    """A body that is cut off when it grows beyond reason."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._inner:
            size += len(part)
            if size > MAX_BODY:
                raise httpx2.ReadError(f"body longer than {MAX_BODY:,} bytes")
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
