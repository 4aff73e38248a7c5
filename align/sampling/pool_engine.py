"""An engine that is a pool of servers: they are given the policy when a round begins, and asked for its samples."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from align.distributed import on_first
from align.errors import ConfigError, ModelError
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
FIRST_TOKENS = 16
"""Of samples that are compared before a round is drawn ahead."""
Write = Callable[[Takes], ServedPolicy]
"""Writes the policy as servers take it and says where; every process calls."""


class PoolEngine(Engine):
    """Samples by the servers of a pool, every sample asked for by itself with a seed of its own.

    Random numbers are the servers' own, so that a sample drawn again is another one. Log-probabilities they tell are
    compared with ours on the first samples of a round: what differs too much is refused before it is kept. Where a
    server does not say which weights it answered by, so are the last samples of every batch. A round that is drawn
    `ahead`, while the module trains on, is compared before: by the first tokens of as many samples, or of those
    that are drawn at a time, which are not kept.
    """

    def __init__(
        self,
        servers: PoolServers,
        ends: StopCriteria,
        settings: Generation,
        *,
        write: Write,
        difference: EngineDifference,
        ahead: bool = False,
    ) -> None:
        self.servers, self.ends, self.settings = servers, ends, settings
        self.write, self.difference, self.ahead = write, difference, ahead
        self.at_a_time = servers.pool.concurrency * len(servers.pool.urls)
        """Samples that all servers draw at a time."""
        self.together = AHEAD * self.at_a_time
        self._answering: list[PolicyServer] = []

    def ready(self) -> None:
        """Bring the policy to every server that answers.

        Raises ModelError for one that does not load it, ConfigError for one whose log-probabilities are of no use, or
        which cannot draw ahead.
        """
        found, settings = on_first(self.servers.found), self.settings
        for server in found if self.ahead else ():
            self._check_named(server)
        written = {takes: self.write(takes) for takes in sorted({server.takes for server in found})}
        ends = self.ends if settings.temperature not in (0, 1) or settings.top_p < 1 else None
        self._answering = on_first(lambda: self.servers.brought(found, written, ends))
        for server in self._answering:
            self._check_mode(server)

    def _check_named(self, server: PolicyServer) -> None:
        """Refuse a server that has to be compared with the model again and again, which trains on meanwhile."""
        if not server.names_weights:
            raise ConfigError(
                f"{server.place} does not say which weights it answers by, and samples drawn ahead come when the model "
                "has others to compare with: set model.backbone.lora.r, take SGLang, or set ahead to 0"
            )

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
        found = asyncio.run(self.asked(jobs, settings, round_number))
        if not self.ahead:
            self.difference.add(list(found.values()))  # in the order they came
        return completions_of(jobs, found)

    def compare(self, jobs: Sequence[Job], round_number: int) -> None:
        """Compare the first tokens of samples with the module as it is. Raises ModelError where they are another's."""
        if not any(server.tells_tokens for server in self._answering):
            return
        short = replace(self.settings, max_new_tokens=min(self.settings.max_new_tokens, FIRST_TOKENS))
        self.difference.add(list(asyncio.run(self.asked(jobs, short, round_number)).values()))

    async def asked(self, jobs: Sequence[Job], settings: Generation, round_number: int) -> dict[int, Drawn]:
        """Return the samples of every job by their place, in the order they came, without a look at the module.

        Raises as `generate` does.
        """
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
        self._tell_of(await dispatch.all(len(asked)))
        return dispatch.found

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
        if self.ahead and self.servers.corrected:
            for one in drawn:
                if one.completion.logprobs is None or any(map(math.isnan, one.completion.logprobs)):
                    raise ModelError(
                        f"{one.by.place} tells no log-probabilities of a sample, and losses on those drawn ahead are "
                        "corrected by them: set ahead to 0, or take another server"
                    )
        silent = {id(one.by) for one in drawn if one.completion.logprobs is None}
        for server in self._answering:
            if server.tells_tokens and id(server) in silent:
                self.servers.tell_once(
                    f"{server.place} tells no log-probabilities: how far they are from ours is neither measured nor "
                    "corrected"
                )


def completions_of(jobs: Sequence[Job], found: Mapping[int, Drawn]) -> list[list[Completion]]:
    """Return the completions of every job, of samples by their place in all of them."""
    places = iter(range(len(found)))
    return [[found[next(places)].completion for _ in job.numbers] for job in jobs]
