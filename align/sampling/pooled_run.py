"""A run whose rounds are sampled by a pool of servers."""

from __future__ import annotations

import copy
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from align.distributed import on_first
from align.sampling.engine_kind import RoundPolicy, RunEngine, SampledRun
from align.sampling.policy_server import ServedPolicy, Takes
from align.sampling.pool_engine import PoolEngine
from align.sampling.pool_servers import PoolServers
from align.sampling.server_pool import ServerPool
from align.sampling.stopping_criteria import StopCriteria


class PooledRun(RunEngine):
    """Servers that are given the policy when a round begins."""

    def __init__(self, pool: ServerPool, run: SampledRun) -> None:
        """Ask the servers how they take a policy; every process calls.

        Raises ConfigError for one that takes none, or not what the method trains.
        """
        self.pool, self.run = pool, run
        self.servers = PoolServers(pool, adapted=run.adapted, on_tokens=run.on_tokens, corrected=run.corrected)
        self._drawing: PoolEngine | None = None
        self._tokenizer: Any = None
        found = on_first(self.servers.found)
        rank_zero_info(f"rounds are sampled by {', '.join(server.url for server in found)}")

    def of(self, policy: RoundPolicy) -> PoolEngine:
        """Return the engine that asks the servers for samples of the module as it is."""
        module, policies = self.run.module, self.run.policies

        def write(takes: Takes) -> ServedPolicy:
            whole = takes == "folder"
            if policy.gone:
                return policies.kept(policy.weights, whole=whole)
            return policies.write(module, policy.prompt_format, policy.weights, whole=whole)

        self._drawing = PoolEngine(
            self.servers,
            self._ends(policy),
            self.run.generation,
            write=write,
            difference=self.run.difference(self.pool.most_difference),
            ahead=policy.ahead,
        )
        return self._drawing

    def _ends(self, policy: RoundPolicy) -> StopCriteria:
        """Return what ends a response, with a tokenizer of its own for a thread: one cannot serve two at a time."""
        ends = policy.ends(self.run.module)
        if policy.ahead:
            self._tokenizer = self._tokenizer or copy.deepcopy(ends.tokenizer)
            ends.tokenizer = self._tokenizer
        return ends

    def finish(self) -> None:
        """Give servers their own weights back."""
        if self._drawing is not None:
            self._drawing.restore()
