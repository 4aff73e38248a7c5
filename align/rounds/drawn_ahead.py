"""The next round of a run, drawn by servers while the model trains on this one."""

from __future__ import annotations

import time

from align.distributed import on_all, on_first, rank
from align.errors import Paused
from align.rounds.pipeline import count_samples, keep_samples, missing_batches
from align.rounds.plan import RoundPlan
from align.rounds.round_folder import RoundFolder
from align.sampling.drawing_thread import DrawingThread
from align.sampling.engine_difference import MEASURED
from align.sampling.generation import Job
from align.sampling.pool_dispatch import tell
from align.sampling.pool_engine import PoolEngine
from align.sampling.sampler import Batch, SamplingProgress


class DrawnAhead:
    """One round that is drawn by the weights the round before it began with, which nothing replaces meanwhile.

    A thread of the first process asks servers and does nothing else. The main thread alone writes the store, between
    steps, and touches devices and other processes.
    """

    def __init__(self, rounds: RoundFolder, plan: RoundPlan, engine: PoolEngine, *, compare: bool) -> None:
        """Give servers the policy and have them begin; every process calls.

        Args:
            rounds: Where the run keeps its rounds.
            plan: What decides the round.
            engine: The servers, with the plan's weights.
            compare: Compare them with the model first, which has those weights still.

        Raises what `engine` does, and ResumeError where the round was begun with other weights.
        """
        began = time.perf_counter()
        self.rounds, self.plan, self.engine = rounds, plan, engine
        known = {(s.prompt, s.number) for s in rounds.begin(plan.number, plan.policy, plan.fingerprint)}
        sampler, self._left = missing_batches(plan, known, engine)
        self._thread: DrawingThread | None = None
        if self._left:
            engine.ready()
            if compare:
                on_all(self._compare)
            if rank() == 0:
                self._thread = DrawingThread(engine, sampler, list(self._left))
        self.waited = time.perf_counter() - began
        """Seconds in which nothing else was done: to give servers the policy, and in the end for what had not come."""

    @property
    def done(self) -> bool:
        """Tell whether servers will not be asked again; known to the first process."""
        return not self._left and not self.plan.settings.refills

    def keep(self) -> None:
        """Commit what has come; the first process has something to do."""
        if self._thread is not None:
            for samples in self._thread.arrived():
                keep_samples(self.rounds, self.plan, samples)
                self._left.pop(0)

    def wait(self) -> None:
        """Wait for the other samples and commit them; every process calls.

        Samples that no server was there for are left to be asked for again. Raises what else ended the asking.
        """
        began = time.perf_counter()
        on_first(self._wait)
        self.waited += time.perf_counter() - began

    def stop(self) -> None:
        """Ask for nothing more, and commit what has come."""
        if self._thread is not None:
            self._thread.stop()
            self.keep()
            self._thread = None

    def _wait(self) -> None:
        if self._thread is None:
            return
        self.keep()
        title = f"round {self.plan.number}: drawn ahead"
        with SamplingProgress(count_samples(self._left), title=title) as progress:
            for samples in self._thread.rest():
                keep_samples(self.rounds, self.plan, samples)
                self._left.pop(0)
                progress.update(samples)
        fault, self._thread = self._thread.fault, None
        if isinstance(fault, Paused):
            tell(f"{title}, {count_samples(self._left)} samples are missing: they are asked for again")
        elif fault is not None:
            raise fault

    def _compare(self) -> None:
        """Compare the first samples, which the first process asks for, with a model that may be sharded over all."""
        with self.engine.in_step():
            if rank() == 0:
                self.engine.compare(_first(self._left, min(MEASURED, self.engine.at_a_time)), self.plan.number)


def _first(batches: list[Batch], count: int) -> list[Job]:
    """Return jobs of so many samples or a few more, one of each prompt where there are so many."""
    jobs = [job for batch in batches for job in batch]
    each = -(-count // len(jobs))
    return [job._replace(numbers=job.numbers[:each]) for job in jobs[:count]]
