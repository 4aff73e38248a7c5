"""An engine that is a pool of servers: they are given the policy when a round begins, and asked for its samples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from align.distributed import on_first
from align.errors import ConfigError
from align.models.in_step import in_step
from align.sampling.engine import Engine
from align.sampling.engine_difference import Drawn, EngineDifference
from align.sampling.generation import Completion, Generation, Job, sample_key
from align.sampling.policy_server import PolicyServer, ServedPolicy, Takes
from align.sampling.pool_dispatch import PoolDispatch
from align.sampling.pool_servers import PoolServers
from align.sampling.stopping_criteria import StopCriteria

AHEAD = 4
"""Samples of a batch for every one that the servers draw at a time, so that its last ones are waited for rarely."""
Write = Callable[[Takes], ServedPolicy]
"""Writes the policy as servers take it and says where; every process calls."""


class PoolEngine(Engine):
    """Samples by the servers of a pool, every sample asked for by itself with a seed of its own.

    Random numbers are the servers' own, so that a sample drawn again is another one. Log-probabilities they tell are
    compared with ours on the first samples of a round: what differs too much is refused before it is kept. Where a
    server does not say which weights it answered by, so are the last samples of every batch.
    """

    def __init__(
        self,
        servers: PoolServers,
        ends: StopCriteria,
        settings: Generation,
        *,
        write: Write,
        difference: EngineDifference,
    ) -> None:
        self.servers, self.ends, self.settings = servers, ends, settings
        self.write, self.difference = write, difference
        self.together = AHEAD * servers.pool.concurrency * len(servers.pool.urls)
        self._answering: list[PolicyServer] = []

    def ready(self) -> None:
        """Bring the policy to every server that answers.

        Raises ModelError for one that does not load it, ConfigError for one whose log-probabilities are of no use.
        """
        found, settings = on_first(self.servers.found), self.settings
        written = {takes: self.write(takes) for takes in sorted({server.takes for server in found})}
        ends = self.ends if settings.temperature not in (0, 1) or settings.top_p < 1 else None
        self._answering = on_first(lambda: self.servers.brought(found, written, ends))
        for server in self._answering:
            self._check_mode(server)

    def _check_mode(self, server: PolicyServer) -> None:
        """Refuse log-probabilities at another temperature than that of sampling where samples are corrected by them."""
        temperature = self.settings.temperature
        if self.servers.corrected and self.difference.temperature_of(server) != temperature:
            raise ConfigError(
                f"{server.place} tells log-probabilities before the temperature, which is {temperature:g}: start it "
                "with --logprobs-mode processed_logprobs, or set generation.temperature to 1"
            )
        if self.difference.temperature_of(server) is None:
            self.servers.tell_once(
                f"{server.place} tells log-probabilities after top_p, which ours are not: they are not compared"
            )

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job. Raises Paused when no server answers, ModelError for a refusal."""
        asked = [(job.request, number) for job in jobs for number in job.numbers]
        keys = [sample_key(settings.seed, round_number, request.id, number) for request, number in asked]

        def read(server: PolicyServer, place: int, body: str) -> Drawn:
            request = asked[place][0]
            return Drawn(request, server.read(body, request, self.ends), server)

        dispatch = PoolDispatch(
            self.servers.pool,
            self.servers.key,
            self._answering,
            lambda server, place: server.body(asked[place][0], keys[place], settings, self.ends),
            read,
        )
        drawn: list[Drawn] = asyncio.run(dispatch.all(len(asked)))
        self._tell_of(drawn)
        self.difference.add(list(dispatch.found.values()))  # in the order they came
        found = iter(drawn)
        return [[next(found).completion for _ in job.numbers] for job in jobs]

    def in_step(self) -> AbstractContextManager[None]:
        """Return the context in which a sharded model scores what servers drew."""
        return in_step([self.difference.model])

    def measured(self) -> dict[str, float]:
        """Return how far the servers' log-probabilities were from ours in this round; every process calls."""
        return self.difference.measured()

    def leave(self) -> None:
        """Have the servers forget the policy, which is not asked again."""
        on_first(lambda: self.servers.left(self._answering))

    def restore(self) -> None:
        """Have servers take their own weights back, after the last round."""
        on_first(lambda: self.servers.restored(self._answering))

    def _tell_of(self, drawn: Sequence[Drawn]) -> None:
        silent = {id(one.by) for one in drawn if one.completion.logprobs is None}
        for server in self._answering:
            if server.tells_tokens and id(server) in silent:
                self.servers.tell_once(
                    f"{server.place} tells no log-probabilities: how far they are from ours is neither measured nor "
                    "corrected"
                )
