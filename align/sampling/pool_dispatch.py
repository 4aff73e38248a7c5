"""Requests spread over the servers of a pool: a free one takes the next, and those of a dead one go to the others."""

from __future__ import annotations

import asyncio
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from align.errors import ModelError, Paused
from align.sampling.policy_server import OtherWeights, PolicyServer
from align.sampling.server_pool import ServerPool
from align.sampling.wire import Late, Refused, RetryPolicy, ServiceStopped, Transient, Wire

LONGEST_WAIT = 5.0
"""Seconds between two tries of a server that answers nothing."""

Bodies = Callable[[PolicyServer, int], dict[str, Any]]
"""From a server and the number of a sample to what is sent for it."""
Reader = Callable[[PolicyServer, int, str], Any]
"""From a server, the number of a sample and the body of its answer to a completion; raises ModelError."""


def wire_to(pool: ServerPool, url: str, key: str | None) -> Wire:
    """Return the wire to one server."""
    patience = RetryPolicy(pool.timeout, max(pool.timeout, pool.patience))
    return Wire(url, key, patience, asyncio.Event(), pool.concurrency)


def tell(line: str) -> None:
    """Say something of a server once, on standard error."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class PoolDispatch:
    """One batch of requests on its way."""

    pool: ServerPool
    key: str | None
    servers: list[PolicyServer]
    """Those that answer; one that does not is taken out."""
    body: Bodies
    read: Reader
    found: dict[int, Any] = field(default_factory=dict)
    """Completions by the number of their request."""
    _none_left: str = ""

    async def all(self, count: int) -> list[Any]:
        """Return the completions of all requests. Raises Paused where no server answers, ModelError for a refusal."""
        self._waiting: asyncio.Queue[int] = asyncio.Queue()
        self._taking, self._health = asyncio.Lock(), {s.url: _Health(self.pool) for s in self.servers}
        for number in range(count):
            self._waiting.put_nowait(number)
        self._count, self._done = count, asyncio.Event()
        done = asyncio.create_task(self._done.wait())
        tasks = [asyncio.create_task(self._use(server)) for server in list(self.servers)]
        try:
            pending = {done, *tasks}
            while not done.done() and len(pending) > 1:
                finished, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    task.result()
            if not done.done():
                raise Paused(self._none_left)
        finally:
            for task in (done, *tasks):
                task.cancel()
            await asyncio.gather(done, *tasks, return_exceptions=True)
        for server in self.servers:
            if (health := self._health[server.url]).failing:
                tell(f"{server.place} does not answer ({health.fault}): the others drew in its place")
        return [self.found[number] for number in range(count)]

    async def _use(self, server: PolicyServer) -> None:
        """Ask one server, several requests at a time, until it is dead; the first refusal ends all."""
        health = self._health[server.url]
        async with wire_to(self.pool, server.url, self.key) as wire:
            width = min(self.pool.concurrency, self._count)
            workers = [asyncio.create_task(self._work(server, wire, health)) for _ in range(width)]
            try:
                for worker in asyncio.as_completed(workers):
                    await worker  # one that returns has found the server dead
                    break
            finally:
                for task in workers:
                    task.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        self.servers.remove(server)
        left = len(self.servers)
        self._none_left = (
            f"none of the {len(self.pool.urls)} servers answers, {server.url} last ({health.fault}): give the same "
            "command again once one does"
        )
        if left:
            tell(f"{server.place} does not answer ({health.fault}): its work goes to the other {left}")

    async def _work(self, server: PolicyServer, wire: Wire, health: _Health) -> None:
        """Ask for one sample after another; what fails goes back, so that another server may take it."""
        while True:
            number = await self._waiting.get()
            try:
                await self._sure(server, wire, health)
                completion = await self._answer(server, wire, number)
            except BaseException as fault:
                self._waiting.put_nowait(number)  # it is nobody's now, whatever happened
                if not isinstance(fault, Transient | ServiceStopped):
                    raise
                if health.is_dead(fault):
                    return
                await asyncio.sleep(health.wait(fault))
                continue
            health.lives()
            self.found[number] = completion
            if len(self.found) == self._count:
                self._done.set()

    async def _sure(self, server: PolicyServer, wire: Wire, health: _Health) -> None:
        """Give a server that may have begun anew its policy again, where its answers would not show it."""
        if server.names_weights or not health.doubted:
            return
        async with self._taking:
            if health.doubted:
                faults = health.faults
                await self._give(server, wire)
                health.trusted = faults

    async def _answer(self, server: PolicyServer, wire: Wire, number: int) -> Any:
        """Ask for one sample; a server that knows the policy no more, having begun anew, is given it again once."""
        for again in (True, False):
            try:
                body = self.body(server, number)
                return self.read(server, number, await server.ask(wire, body, self.pool.timeout))
            except Refused as error:
                if not (again and server.has_forgotten(error)):
                    raise ModelError(f"{server.place} refuses: {error}") from None
            except OtherWeights:
                if not (again and server.replaces):
                    raise
            async with self._taking:  # the others of this server then find that it is there
                await self._give(server, wire)
        raise AssertionError

    async def _give(self, server: PolicyServer, wire: Wire) -> None:
        assert server.policy is not None
        await server.take(wire, server.policy, self.pool.timeout)


class _Health:
    """Whether a server answers: it is dead after so many seconds of failures, with nothing between them."""

    def __init__(self, pool: ServerPool) -> None:
        self.pool, self.fault = pool, ""
        self._since, self._tries = math.inf, 0
        self.faults = self.trusted = 0
        """Faults after which it may have begun anew, and how many there were when it was last given its policy."""

    @property
    def doubted(self) -> bool:
        """Tell whether it may have begun anew."""
        return self.faults > self.trusted

    def lives(self) -> None:
        """Note an answer."""
        self._since, self._tries = math.inf, 0

    @property
    def failing(self) -> bool:
        """Tell whether the last that came was a failure."""
        return self._since < math.inf

    def is_dead(self, fault: Exception) -> bool:
        """Note a failure, and tell whether it was one too many; one by silence has lasted for its whole time."""
        now = asyncio.get_running_loop().time()
        status = fault.status if isinstance(fault, Transient) else 0
        self.faults += status == 0 or status >= 500
        silent = self.pool.timeout if isinstance(fault, Late) else 0.0
        self._since, self.fault, self._tries = min(self._since, now - silent), str(fault), self._tries + 1
        return isinstance(fault, ServiceStopped) or now - self._since >= self.pool.patience

    def wait(self, fault: Exception) -> float:
        """Return the seconds to the next try: as the server asks, or ever longer."""
        asked = fault.after if isinstance(fault, Transient) else 0.0
        own: float = min(0.1 * 2 ** min(self._tries, 10), LONGEST_WAIT, self.pool.patience / 4)
        return max(asked, random.uniform(0.5, 1) * own)
