"""What draws completions: a model in this process, or another program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from align.sampling.generation import Completion, Generation, Job


class Engine(ABC):
    """Draws the completions of a batch of jobs."""

    together: int | None = None
    """Samples that are asked for at a time; None lets the positions of a batch decide."""
    spreads = False
    """Whether the first process asks for all batches, which others draw, rather than each process for its own."""

    def ready(self) -> None:
        """Be ready to draw a round; every process calls, before the first batch."""

    def rest(self) -> None:
        """Give back what is not needed until `ready` is called again; every process calls, after the last batch."""

    def in_step(self) -> AbstractContextManager[None]:
        """Return a context for one batch, or none: every process enters, for a model that lies in shards on all."""
        return nullcontext()

    def measured(self) -> dict[str, float]:
        """Return what was measured of the engine while it drew, by name; every process calls."""
        return {}

    @abstractmethod
    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job, in order; the stream of each is that of its `sample_key`."""

    def stream(
        self, batches: Sequence[Sequence[Job]], settings: Generation, round_number: int = 0
    ) -> Iterator[tuple[int, list[list[Completion]]]]:
        """Yield the place of every batch and its completions, in the order they are done."""
        for place, jobs in enumerate(batches):
            yield place, self.generate(jobs, settings, round_number)
