"""An engine that is a number of workers on a Ray cluster, each with align's own engine and the policy's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from align.distributed import on_first
from align.models.backbone import Backbone
from align.models.in_step import in_step
from align.sampling.decoding_rows import told_at
from align.sampling.engine import Engine
from align.sampling.engine_difference import Drawn, EngineDifference
from align.sampling.generation import Completion, Generation, Job
from align.sampling.ray_policy import WorkerPolicy
from align.workers.ray_session import RaySession


class RayDrawer(NamedTuple):
    """What drew a sample, for messages."""

    processed: bool
    place: str = "a Ray worker"
    names_weights: bool = True


class RayEngine(Engine):
    """Has every batch drawn by one worker, whole, so that its tokens are those this process would draw.

    They depend on the batch and the sample's key alone, not on which worker draws, nor on how many there are.
    """

    spreads = True

    def __init__(
        self,
        session: RaySession,
        eos_ids: Sequence[int],
        stop: Sequence[str],
        *,
        write: Callable[[], Backbone],
        difference: EngineDifference,
    ) -> None:
        """Prepare to draw.

        Args:
            session: Workers.
            eos_ids: Tokens that end a response.
            stop: Texts that end a response.
            write: Writes the policy where workers read it, if it is not there, and says how they load it; every
                process calls.
            difference: Compares what they say of their samples with what this process does.
        """
        self.session, self.eos_ids, self.stop = session, eos_ids, stop
        self.write, self.difference = write, difference
        self._written: Backbone | None = None

    def ready(self) -> None:
        """Write the policy and connect to the cluster."""
        on_first(self.session.check)
        self._written = self.write()
        self.difference.begin()

    def stream(
        self, batches: Sequence[Sequence[Job]], settings: Generation, round_number: int = 0
    ) -> Iterator[tuple[int, list[list[Completion]]]]:
        """Yield the place of every batch and its completions, in the order workers are done with them."""
        assert self._written is not None
        policy = WorkerPolicy.of(self._written, self.eos_ids, self.stop, settings, round_number)
        plain = [[_plain(job) for job in batch] for batch in batches]
        for place, found in self.session.run(policy, plain):
            self._measure(batches[place], found)
            yield place, found

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job."""
        [(_, found)] = self.stream([jobs], settings, round_number)
        return found

    def in_step(self) -> AbstractContextManager[None]:
        """Return the context in which a sharded model scores what workers drew."""
        return in_step([self.difference.model])

    def measured(self) -> dict[str, float]:
        """Return how far the workers' log-probabilities were from ours in this round; every process calls."""
        return self.difference.measured()

    def _measure(self, batch: Sequence[Job], found: Sequence[Sequence[Completion]]) -> None:
        by = RayDrawer(processed=told_at(self.difference.settings) != 1.0)
        pairs = zip(batch, found, strict=True)
        self.difference.add([Drawn(job.request, one, by) for job, drawn in pairs for one in drawn])


def _plain(job: Job) -> Job:
    """Return a job without what only engines read that write prompts themselves."""
    return job._replace(request=job.request._replace(messages=(), tools=""))
