"""The loader of a stream: its steps one by one, and the place at which a resumed run goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from align.data.batching import derive
from align.data.drop_report import Report
from align.data.loader import as_arrays, as_it_is, as_tensors, check_budget, check_same
from align.data.shards import check_shards
from align.data.stream import StreamPlace
from align.data.stream_steps import Position, StreamSteps
from align.errors import AlignError, ResumeError
from align.records import Step

AHEAD = 3
"""Steps whose ends are remembered; Lightning fetches one ahead of the one it trains on."""


class Trained(NamedTuple):
    """The steps of an epoch that a run has begun."""

    epoch: int
    steps: int


class StreamProgress:
    """How far a Trainer is, which is less far than what it has fetched."""

    def __init__(self, trainer: Any) -> None:
        self._loop = trainer.fit_loop

    @property
    def trained(self) -> Trained:
        """Return the steps that it has begun to train on."""
        progress = self._loop.epoch_loop.batch_progress.current
        return Trained(self._loop.epoch_progress.current.completed, progress.ready)

    @property
    def epoch(self) -> int:
        """Return the epoch whose first step it asks for: the one it goes on with, or the next one."""
        return int(self._loop.epoch_progress.current.processed)


class StreamLoader:
    """Iterates over the steps of an epoch, nobody knows how many, and resumes behind any of them."""

    batch_sampler = None

    def __init__(self, steps: StreamSteps, fingerprint: str, progress: StreamProgress | None = None) -> None:
        self.steps, self.fingerprint, self._progress = steps, fingerprint, progress
        self.sampler = self  # Lightning calls its set_epoch
        workers = steps.settings.batching.num_workers
        self._loader: DataLoader[Any] = DataLoader(
            steps,
            batch_size=None,
            collate_fn=_sent if workers else as_it_is,
            num_workers=workers,
            worker_init_fn=_alone,
            generator=torch.Generator().manual_seed(derive(steps.stream.settings.seed, "loader")),
        )
        self._epoch: int | None = None
        self._given = Trained(0, 0)
        self._ends: dict[Trained, Position | None] = {}
        self._resume: dict[str, Any] | None = None
        self._resumed: dict[str, Any] = _place(Trained(0, 0), Position())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Step]:
        epoch, start = self._begin()
        self.steps.epoch, self.steps.start = epoch, start
        self._note(Trained(epoch, start.steps), start)
        for handed in self._loader:
            if isinstance(handed, AlignError):
                raise handed
            if isinstance(handed, Report):
                self._ends[self._given], self._resume = None, None
                rank_zero_info(f"data {self.steps.stream.source.name}/train, epoch {epoch} read to its end: {handed}")
                return
            self._note(Trained(epoch, handed.after.steps), handed.after)
            yield as_tensors(handed.batches)

    def _begin(self) -> tuple[int, Position]:
        """Return where to begin.

        Lightning asks for the first step before it has named the epoch, and then may begin the same epoch again: a
        state holds until its epoch is over.
        """
        state = self._resume
        if state is None:
            named = self._progress.epoch if self._epoch is None and self._progress else self._epoch
            return named or 0, Position()
        epoch = state["epoch"] + state["finished"] if self._epoch is None else self._epoch
        if epoch != state["epoch"] or state["finished"]:
            return epoch, Position()
        shard, row = state["place"]
        return epoch, Position(StreamPlace(shard, row), state["taken"], state["steps"], state["report"])

    def _note(self, given: Trained, position: Position) -> None:
        self._given = given
        self._ends[given] = position
        for old in list(self._ends)[:-AHEAD]:
            del self._ends[old]

    def state_dict(self) -> dict[str, Any]:
        """Return the place behind the last step that was trained on, and what must not change."""
        trained = self._progress.trained if self._progress else self._given
        place = self._resumed
        if trained in self._ends:
            place = _place(trained, self._ends[trained])
        assert trained in self._ends or trained.steps in (0, place["steps"]), (
            f"no place of {list(self._ends)} is {trained}"
        )
        settings = self.steps.settings
        cut = {"tokens": settings.batching.tokens, "layout": settings.layout.name}
        return {**place, **cut, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind a saved state. Raises ResumeError where the shards or their division changed."""
        if "shards" not in state:
            raise ResumeError("cannot resume: the data were not streamed in the checkpoint: set data.streaming false")
        check_shards(state["shards"], self.steps.stream.shards)
        check_same(state, self._identity())
        check_budget(state, self.steps.settings.batching.tokens, self.steps.settings.layout)
        self._resume, self._resumed = dict(state), dict(state)

    def _identity(self) -> dict[str, Any]:
        stream, settings = self.steps.stream, self.steps.settings
        return {
            "shards": [list(shard.identity) for shard in stream.shards],
            "fingerprint": self.fingerprint,
            "world_size": settings.share.world_size,
            "groups_per_step": settings.step,
            "shuffle_window": stream.settings.window,
            "seed": stream.settings.seed,
        }


def _place(trained: Trained, position: Position | None) -> dict[str, Any]:
    """Return the end of a step as a checkpoint holds it; None is the end of the epoch."""
    known = {"epoch": trained.epoch, "steps": trained.steps, "finished": position is None}
    if position is None:
        return known
    return {**known, "place": list(position.first), "taken": position.taken, "report": dict(position.report)}


def _sent(handed: Any) -> Any:
    """Send a worker's batches through its pipe as arrays."""
    return handed._replace(batches=as_arrays(handed.batches)) if hasattr(handed, "batches") else handed


def _alone(worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive a fork
