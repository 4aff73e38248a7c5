"""The rows of a batch of jobs while they are decoded: their limits, their random numbers, and when each has ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from align.errors import ConfigError
from align.sampling.generation import Completion, Finish, Generation, Job, sample_key, uniforms
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.token_sampling import sample_next_tokens
from align.scoring.decoder import unwrapped

_WATCHED: ContextVar[dict[int, list[Tensor]] | None] = ContextVar("watched", default=None)
_TELLING: ContextVar[bool] = ContextVar("telling", default=False)


@contextmanager
def watched() -> Iterator[dict[int, list[Tensor]]]:
    """Yield the logits from which every row of a batch is drawn meanwhile, token after token."""
    seen: dict[int, list[Tensor]] = defaultdict(list)
    token = _WATCHED.set(seen)
    try:
        yield seen
    finally:
        _WATCHED.reset(token)


@contextmanager
def telling() -> Iterator[None]:
    """Have completions tell the log-probability of every token, as it was drawn: at the temperature of drawing.

    It is that at temperature 1 where the most probable token is taken, or `top_p` leaves tokens out.
    """
    token = _TELLING.set(True)
    try:
        yield
    finally:
        _TELLING.reset(token)


@dataclass
class Row:
    """One completion in the making."""

    limit: int
    ids: list[int]
    finish: Finish | None = None
    logprobs: list[float] = field(default_factory=list)
    """Of its tokens, where they are told."""


class Rows:
    """Every sample of a batch of jobs, one row each, in the order of the jobs."""

    def __init__(
        self, model: nn.Module, ends: StopCriteria, jobs: Sequence[Job], settings: Generation, round_number: int
    ) -> None:
        """Start every row. Raises ConfigError for a prompt that fills the model's context."""
        self.ends, self.jobs, self.settings = ends, jobs, settings
        room = max_positions(model)
        self.rows = [Row(_limit(job, settings, room), []) for job in jobs for _ in job.numbers]
        self.all = list(range(len(self.rows)))
        keys = [sample_key(settings.seed, round_number, j.request.id, k) for j in jobs for k in j.numbers]
        drawn = np.stack([uniforms(key, settings.max_new_tokens) for key in keys])
        self.numbers = torch.from_numpy(drawn).to(next(model.parameters()).device)
        self.tells = _TELLING.get()
        self._told: list[float] = []

    def draw(self, logits: Float[Tensor, "row vocab"], places: list[int], step: int | list[int]) -> Int[Tensor, " row"]:
        """Return the next token of these rows, which have as many tokens each as `step` says."""
        if (seen := _WATCHED.get()) is not None:
            for place, row in zip(places, logits, strict=True):
                seen[place].append(row)
        whole = places == self.all and isinstance(step, int)
        own = self.numbers[:, step] if whole else self.numbers[places, step]
        tokens = sample_next_tokens(logits, own, temperature=self.settings.temperature, top_p=self.settings.top_p)
        if self.tells:
            told = (logits.float() / told_at(self.settings)).log_softmax(-1)
            self._told = told.gather(-1, tokens[:, None])[:, 0].tolist()
        return tokens

    def take(self, places: list[int], tokens: list[int]) -> list[int]:
        """Append a token to every one of these rows that goes on; return the indices, in `places`, that still do."""
        going = []
        for index, (place, token) in enumerate(zip(places, tokens, strict=True)):
            row = self.rows[place]
            if row.finish is None:
                row.ids.append(token)
                row.logprobs += self._told[index : index + 1]
                row.finish = self.ends.reason(row.ids, row.limit)
                if row.finish is None:
                    going.append(index)
        return going

    def completions(self) -> list[list[Completion]]:
        """Return what was drawn for every job."""
        ended = [self.ends.completion(row.ids, row.finish or "length") for row in self.rows]
        if self.tells:
            ended = [one._replace(logprobs=row.logprobs) for one, row in zip(ended, self.rows, strict=True)]
        done = iter(ended)
        return [[next(done) for _ in job.numbers] for job in self.jobs]


def max_positions(model: nn.Module) -> int:
    """Return the longest sequence a model takes; a large number where it has no limit."""
    config = unwrapped(model).config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 10**9)


def told_at(settings: Generation) -> float:
    """Return the temperature at which log-probabilities are told."""
    return settings.temperature if settings.temperature and settings.top_p == 1 else 1.0


def _limit(job: Job, settings: Generation, most: int) -> int:
    room = most - len(job.request.ids)
    if room < 1:
        raise ConfigError(
            f"prompt {job.request.id} has {len(job.request.ids)} tokens, which fill the model's context of "
            f"{most}: shorten it, or set data.encoding.truncation"
        )
    return min(room, settings.max_new_tokens)
