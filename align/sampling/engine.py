"""What draws completions: a model in this process, or another program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from align.sampling.generation import Completion, Generation, Job


class Engine(ABC):
    """Draws the completions of a batch of jobs."""

    @abstractmethod
    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job, in order; the stream of each is that of its `sample_key`."""
