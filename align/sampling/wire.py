"""Requests to a server of the OpenAI kind: what is retried, what is not, how long one waits, and how a body is read."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import math
import random
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx2

from align.errors import ConfigError
from align.sampling.server_faults import printable, read_error, uses_up_quota
from align.sampling.service_key import KeySpellings

MAX_BODY = 4_000_000
LONGEST_BACKOFF = 60.0
SILENT = 10.0
"""Seconds without an answer after which it is told that one is waited for."""


class Transient(Exception):
    """A fault that may pass; `after` is how long the server asks to wait, in seconds, `status` 0 without an answer."""

    def __init__(self, message: str, after: float = 0.0, status: int = 0) -> None:
        super().__init__(message)
        self.after, self.status = after, status


class Late(Transient):
    """No whole answer within the seconds it was given."""


class Refused(Exception):
    """A fault that will not pass."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class ServiceStopped(Exception):
    """A service or a budget that gives no more answers for now; the message says why."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a service, in seconds."""

    timeout: float = 120.0
    """For one answer, whole."""
    deadline: float = 900.0
    """For one question with all its retries, waits included; the run then stops and may be started again."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= self.deadline:
            raise ConfigError(f"timeout must be positive and at most deadline, got {self.timeout}, {self.deadline}")


class Wire:
    """Sends JSON and returns bodies as text. The key is read by the caller, and taken out of all that comes back."""

    def __init__(
        self, base_url: str, key: str | None, patience: RetryPolicy, stopped: asyncio.Event, connections: int
    ) -> None:
        self._url, self._patience, self._stopped = base_url.rstrip("/"), patience, stopped
        self._spellings, self._told = KeySpellings(key), False
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx2.AsyncClient(follow_redirects=False, timeout=None, headers=headers, limits=limits)

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: dict[str, Any], seconds: float, *, root: bool = False) -> str:
        """Return the body of an answer that is whole within so many seconds; `root` leaves out the address' /v1.

        Raises Transient, Refused, or ServiceStopped when the quota is used up.
        """
        return await self._ask("POST", f"{self._base(root)}{path}", json.dumps(body).encode(), seconds)

    async def get(self, path: str, seconds: float, *, root: bool = False) -> str:
        """Return what stands at a path, within so many seconds. Raises as `post` does."""
        return await self._ask("GET", f"{self._base(root)}{path}", None, seconds)

    def _base(self, root: bool) -> str:
        return self._url.removesuffix("/v1") if root else self._url

    async def _ask(self, method: str, url: str, content: bytes | None, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                status, headers, data = await self._send(method, url, content)
        except TimeoutError as late:
            raise Late(f"no whole answer within {seconds:.3g} s") from late
        except httpx2.HTTPError as failed:
            told = self._spellings.removed(str(failed) or type(failed).__name__)
            raise Transient(f"connection failed ({printable(told, 100)})") from failed
        text = self._spellings.removed(read_text(data, headers.get("content-encoding", "")))
        error = read_error(text)
        if error and uses_up_quota(error):
            raise ServiceStopped(f"the quota of the service is used up ({error.get('message', '')})")
        if not 200 <= status < 300:
            raise _of_status(status, headers, error or {})
        if error is not None:
            raise Transient(f"an error in place of an answer ({error.get('message', '')})")
        return text

    async def _send(self, method: str, url: str, content: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
        async with self._http.stream(method, url, content=content) as response:
            data = bytearray()
            async for part in response.aiter_raw():
                data += part
                if len(data) > MAX_BODY:
                    raise httpx2.ReadError(f"body longer than {MAX_BODY:,} bytes")
            return response.status_code, response.headers, bytes(data)

    async def patiently(self, call: Callable[[float], Awaitable[str]]) -> str:
        """Call with the seconds it may take until it succeeds, waiting as the server asks or ever longer.

        Raises ServiceStopped once the deadline is too near for another try, or another question has stopped the run.
        It tells the last fault of the service: a try that the deadline cut short says nothing of it.
        """
        clock = asyncio.get_running_loop().time
        end, tries = clock() + self._patience.deadline, count()
        fault: Transient | None = None
        while (left := end - clock()) > 0:
            try:
                return await call(min(self._patience.timeout, left))
            except Transient as error:
                if fault is None or left >= self._patience.timeout or not isinstance(error, Late):
                    fault = error
            wait = max(fault.after, random.uniform(0, min(0.5 * 2 ** next(tries), LONGEST_BACKOFF)))
            if clock() + wait >= end or self._stopped.is_set():
                break
            self._tell_waiting(fault, self._patience.deadline - (end - clock()))
            await self._sleep(wait)
        raise ServiceStopped(f"the service does not answer: {fault}") from fault

    def _tell_waiting(self, fault: Transient, waited: float) -> None:
        """Say once that a service does not answer, and how long it will be asked."""
        if waited >= SILENT and not self._told:
            self._told = True
            asked = f"it is asked again for up to {self._patience.deadline:g} s"
            print(f"{self._url}: no answer for {waited:.0f} s ({fault}): {asked}", file=sys.stderr, flush=True)

    async def _sleep(self, seconds: float) -> None:
        """Wait, but no longer than until another question has stopped the run."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return


def read_text(data: bytes, coding: str) -> str:
    """Return a body as text, whatever its headers say of it: JSON is Unicode, and nothing else can be read anyway."""
    window = {"gzip": 31, "deflate": 15}.get(coding.strip().lower())
    if window is not None:
        with contextlib.suppress(zlib.error):  # the bytes are kept as they came then, and are no answer
            data = zlib.decompressobj(window).decompress(data, MAX_BODY)
    return data.decode(json.detect_encoding(data), errors="replace")


def _of_status(code: int, headers: Mapping[str, str], error: dict[str, str]) -> Exception:
    detail = f"status {code}" + (f", {error['message']}" if "message" in error else "")
    if code == 402:
        return ServiceStopped(f"the service wants payment ({detail})")
    if code in (408, 409, 425, 429) or code >= 500:
        return Transient(detail, retry_after(headers.get("retry-after", "")), code)
    if 300 <= code < 400:
        return Refused(f"status {code}: redirects are not followed, so that the key stays with its host", code)
    hint = {401: ": the key is not accepted", 403: ": the key may not do this", 404: ": check base_url and model"}
    return Refused(detail + hint.get(code, ""), code, error.get("code", ""))


def retry_after(value: str) -> float:
    """Return the seconds a server asks to wait, as a number or until a date; 0 where it says nothing readable."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, IndexError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
