"""The servers of a pool over a whole run: how each takes a policy, and bringing it to all that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from align.errors import ConfigError, ModelError, Paused
from align.sampling.policy_server import PolicyServer, ServedPolicy, Takes
from align.sampling.policy_server_finding import kind_of
from align.sampling.policy_server_kinds import SHORT
from align.sampling.pool_dispatch import tell, wire_to
from align.sampling.server_pool import ServerPool
from align.sampling.started_server import started_with
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.wire import Refused, ServiceStopped, Transient, Wire

T = TypeVar("T")
BETWEEN = 0.5
"""Seconds between two tries."""


class PoolServers:
    """Finds out what each server takes, once it answers, and gives it the policy of a round."""

    def __init__(
        self, pool: ServerPool, *, adapted: bool, on_tokens: bool, corrected: bool, asked: str | None = None
    ) -> None:
        """Know no server yet.

        Args:
            pool: The settings.
            adapted: Whether an adapter alone is trained.
            on_tokens: Whether samples are trained on as the tokens they were drawn as.
            corrected: Whether losses are weighted by how probable the servers said those are.
            asked: The one model that is asked, where none is trained: a server may have been started with it.
        """
        self.pool, self.adapted, self.on_tokens, self.corrected = pool, adapted, on_tokens, corrected
        self.asked, self.setting = asked, "engine" if asked is None else "pool"
        self.key = pool.key()
        self._told: set[str] = set()

    def found(self) -> list[PolicyServer]:
        """Return the servers that answer.

        Raises ConfigError for one that takes no policy, or not what is trained; Paused where none answers.
        """
        servers = asyncio.run(
            self._all(self.pool.urls, lambda url: self._with(url, lambda wire: self._kind(wire, url)))
        )
        for server in servers:
            self._check(server)
        return servers

    def brought(
        self, servers: Sequence[PolicyServer], written: Mapping[Takes, ServedPolicy], ends: StopCriteria | None
    ) -> list[PolicyServer]:
        """Give servers the policy and return those that took it.

        Args:
            servers: Those that answered.
            written: The policy in every form that servers take it in.
            ends: Find out what log-probabilities follow, where temperature or top_p make a difference; else None.

        Raises ModelError for a server that does not load it.
        """
        known = {server.url: server for server in servers}

        async def bring(wire: Wire, server: PolicyServer) -> PolicyServer:
            await server.take(wire, written[server.takes], self.pool.timeout)
            if ends is not None:
                await server.find_mode(wire, ends, self.pool.timeout)
            return server

        return asyncio.run(self._all(list(known), lambda url: self._with(url, lambda wire: bring(wire, known[url]))))

    def left(self, servers: Sequence[PolicyServer]) -> None:
        """Have servers that answer forget the policy; what is not forgotten costs them memory alone."""
        self._told_each(servers, lambda server, wire: server.leave(wire, SHORT))

    def restored(self, servers: Sequence[PolicyServer]) -> None:
        """Give servers their own weights back that would answer under their names with the policy's."""
        replaced = [server for server in servers if server.replaces]
        self._told_each(replaced, lambda server, wire: server.restore(wire, self.pool.timeout))

    def _told_each(
        self, servers: Sequence[PolicyServer], told: Callable[[PolicyServer, Wire], Awaitable[None]]
    ) -> None:
        async def one(server: PolicyServer) -> None:
            async with wire_to(self.pool, server.url, self.key) as wire:
                try:
                    await told(server, wire)
                except (Transient, ServiceStopped, Refused, ModelError) as fault:
                    tell(f"server {server.url} still holds the policy ({fault})")

        async def all_of_them() -> None:
            await asyncio.gather(*map(one, servers))

        asyncio.run(all_of_them())

    def tell_once(self, line: str) -> None:
        """Say something the first time."""
        if line not in self._told:
            self._told.add(line)
            tell(line)

    def _check(self, server: PolicyServer) -> None:
        if server.takes == "adapter" and not self.adapted:
            raise ConfigError(f"{self.setting}.urls: {server.place} takes adapters, and {self._instead()}")
        if server.replaces:
            self.tell_once(
                f"{server.place} has its own weights replaced by the policy's: nobody else should ask it meanwhile"
            )
        if self.on_tokens and not server.tells_tokens:
            raise ConfigError(
                f"{self.setting}.urls: {server.place} gives texts, which encoded again may be other tokens than it "
                "drew, and the method trains on tokens: take vLLM or SGLang, or an engine of this process"
            )
        if not server.tells_tokens:
            self.tell_once(
                f"{server.place} gives texts: they are encoded again, and without its log-probabilities nothing is "
                "measured of how far its samples are from the policy's"
            )

    def _instead(self) -> str:
        """Return what a server could do that takes adapters, and is given none."""
        if self.asked is None:
            return (
                "all weights are trained: set model.backbone.lora.r, or start vLLM with VLLM_SERVER_DEV_MODE=1, or "
                "take SGLang or `transformers serve`"
            )
        return (
            f"{self.asked} is a whole model, with which it was not started: start it as `vllm serve {self.asked}`, or "
            "let `transformers serve` load the folder"
        )

    async def _kind(self, wire: Wire, url: str) -> PolicyServer:
        if self.asked is not None and (server := await started_with(wire, url, self.asked)):
            return server
        return await kind_of(wire, url, self.setting, adapted=self.adapted, trained=self.asked is None)

    async def _all(self, urls: Sequence[str], ask: Callable[[str], Awaitable[T | str]]) -> list[T]:
        """Ask all at a time and return what those say that answer; of the others it is told."""
        found = await asyncio.gather(*map(ask, urls))
        silent = [(url, fault) for url, fault in zip(urls, found, strict=True) if isinstance(fault, str)]
        if len(silent) == len(urls):
            raise Paused(
                f"none of {len(self.pool.urls)} servers answers, {silent[0][0]}: {silent[0][1]}: give the same "
                "command again once one does"
            )
        for url, fault in silent:
            tell(f"server {url} does not answer ({fault}): it is left out until the next round")
        return [one for one in found if not isinstance(one, str)]

    async def _with(self, url: str, ask: Callable[[Wire], Awaitable[T]]) -> T | str:
        """Return what a server says, or its fault where it answers nothing as long as the pool is patient."""
        clock = asyncio.get_running_loop().time
        end = clock() + self.pool.patience
        async with wire_to(self.pool, url, self.key) as wire:
            while True:
                try:
                    return await ask(wire)
                except (Transient, ServiceStopped) as fault:
                    if isinstance(fault, ServiceStopped) or clock() + BETWEEN >= end:
                        return str(fault)
                except Refused as error:
                    raise ModelError(f"server {url} refuses: {error}") from None
                await asyncio.sleep(BETWEEN)
