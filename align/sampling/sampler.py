"""Requests in, samples out: fixed batches of similar length, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from tqdm import tqdm

from align.sampling.checked import LocalEngine
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation, Job, Request, Sample

Batch = list[Job]
Said = Callable[[Sequence[int], str], str]
"""Returns what a response says, given its tokens and their text without special ones, as `Template.said` does."""


class Sampler:
    """Draws `num_samples` completions of every request, batch by batch.

    Which samples share a batch depends on the requests and the settings alone, so that a run that goes on after a kill
    draws what is missing exactly as it would have.
    """

    def __init__(
        self, engine: Engine, settings: Generation, *, round_number: int = 0, said: Said | None = None
    ) -> None:
        self.engine, self.settings, self.round_number, self.said = engine, settings, round_number, said

    def plan(self, requests: Sequence[Request]) -> list[Batch]:
        """Return the batches, longest prompts first, so that what does not fit into memory fails at once."""
        settings = self.settings
        if self.engine.together is not None:
            return self._plan_by_count(requests, self.engine.together)
        batches: list[Batch] = []
        left, width = 0, 0
        for place in sorted(range(len(requests)), key=lambda i: len(requests[i].ids), reverse=True):
            request = requests[place]
            fitting = (settings.batch_tokens - len(request.ids)) // settings.max_new_tokens
            together = min(max(fitting, 1), settings.num_samples)
            for first in range(0, settings.num_samples, together):
                numbers = range(first, min(first + together, settings.num_samples))
                needed = width + len(numbers) * settings.max_new_tokens  # shorter prompts are padded to the first
                if not batches or needed > left:
                    batches.append([])
                    width = len(request.ids)
                    left, needed = settings.batch_tokens, width + len(numbers) * settings.max_new_tokens
                batches[-1].append(Job(place, request, numbers))
                left -= needed
        return batches

    def _plan_by_count(self, requests: Sequence[Request], together: int) -> list[Batch]:
        """Return batches of whole prompts with so many samples or a few more, longest prompts first."""
        numbers, width = range(self.settings.num_samples), max(-(-together // self.settings.num_samples), 1)
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].ids), reverse=True)
        jobs = [Job(place, requests[place], numbers) for place in order]
        return [jobs[first : first + width] for first in range(0, len(jobs), width)]

    def stream(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        """Yield the samples of every batch, in the order the batches are done."""
        for place, found in self.engine.stream(batches, self.settings, self.round_number):
            yield samples_of(batches[place], found)

    def sample(self, requests: Sequence[Request], *, bar: bool = False) -> list[Sample]:
        """Return all samples in the order of the requests, with what they say; `bar` shows progress on a terminal."""
        found: list[Sample] = []
        with SamplingProgress(len(requests) * self.settings.num_samples, shown=bar) as progress:
            for drawn in self.stream(self.plan(requests)):
                progress.update(drawn)
                found += drawn
        told = found if self.said is None else [s._replace(text=self.said(s.ids, s.text)) for s in found]
        return sorted(told, key=lambda s: (s.prompt, s.number))


def samples_of(jobs: Batch, found: Sequence[Sequence[Completion]]) -> list[Sample]:
    """Return the samples of a batch, given the completions of every job."""
    return [
        Sample(job.place, number, *completion)
        for job, completions in zip(jobs, found, strict=True)
        for number, completion in zip(job.numbers, completions, strict=True)
    ]


class SamplingProgress:
    """A bar over samples, with tokens per second; none where standard error is no terminal."""

    def __init__(self, total: int, *, shown: bool = True, title: str = "sampling") -> None:
        self._bar = tqdm(total=total, unit="sample", desc=title, disable=None if shown else True)
        self._tokens, self._started = 0, time.perf_counter()

    def __enter__(self) -> SamplingProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, samples: Sequence[Sample]) -> None:
        """Count samples."""
        self._tokens += sum(len(s.ids) for s in samples)
        rate = self._tokens / (time.perf_counter() - self._started)
        self._bar.set_postfix_str(f"{rate:.0f} tok/s", refresh=False)
        self._bar.update(len(samples))


def sample(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    settings: Generation,
    *,
    eos_ids: Sequence[int],
    stop: Sequence[str] = (),
    said: Said | None = None,
    bar: bool = False,
) -> list[Sample]:
    """Return `num_samples` completions of each prompt by a model in this process, in the order of the prompts."""
    engine = LocalEngine(model, tokenizer, eos_ids, stop)
    return Sampler(engine, settings, said=said).sample([Request.of_ids(ids) for ids in prompts], bar=bar)
