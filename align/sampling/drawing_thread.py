"""A thread that asks servers for the samples of a round while the main one trains."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from align.sampling.generation import Sample
from align.sampling.pool_engine import PoolEngine, completions_of
from align.sampling.sampler import Batch, Sampler, samples_of

SHORT = 5.0
"""Seconds that a thread which is told to stop is waited for."""


class DrawingThread:
    """Asks for one batch after the other and does nothing else: who made it takes from it what came."""

    def __init__(self, engine: PoolEngine, sampler: Sampler, batches: Sequence[Batch]) -> None:
        """Begin to ask.

        Args:
            engine: Servers that were given the policy; nobody else may use it until the thread has ended.
            sampler: Says how to draw, and for which round.
            batches: What is asked for.
        """
        self.engine, self.sampler, self.batches = engine, sampler, batches
        self.fault: Exception | None = None
        """What ended it before its last batch."""
        self._found: SimpleQueue[list[Sample] | None] = SimpleQueue()
        self._ended = False
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._all())
        self._thread = Thread(target=self._run, name="draws ahead", daemon=True)
        self._thread.start()

    def arrived(self) -> Iterator[list[Sample]]:
        """Yield the batches that have come since, without waiting."""
        with suppress(Empty):
            while not self._ended:
                yield from self._one(self._found.get_nowait())

    def rest(self) -> Iterator[list[Sample]]:
        """Yield all further batches as they come; behind the last one `fault` tells whether it was the last."""
        while not self._ended:
            yield from self._one(self._found.get())

    def stop(self) -> None:
        """Ask for nothing more; what was under way is lost."""
        with suppress(RuntimeError):  # of a loop that is closed: it has ended
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(SHORT)

    def _one(self, found: list[Sample] | None) -> Iterator[list[Sample]]:
        if found is None:
            self._ended = True
        else:
            yield found

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:  # by `stop`
            pass
        except Exception as fault:  # raised by who waits for the samples
            self.fault = fault
        finally:
            self._loop.close()
            self._found.put(None)

    async def _all(self) -> None:
        settings, number = self.sampler.settings, self.sampler.round_number
        for jobs in self.batches:
            found = await self.engine.asked(jobs, settings, number)
            self._found.put(samples_of(jobs, completions_of(jobs, found)))
