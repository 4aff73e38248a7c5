"""The loader: batches in an order that is a function of (seed, epoch), each with the totals of its optimiser step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from align.data.batching import Batches, Batching, adjust, derive, planned_count
from align.data.groups import EncodedGroups
from align.errors import ResumeError
from align.records import CandidateBatch, StepTotals, totals_of


class BatchPlan(NamedTuple):
    """The groups of one batch, and the totals of the optimiser step it belongs to."""

    indices: list[int]
    totals: StepTotals


@dataclass(frozen=True)
class Share:
    """This process's part of every optimiser step."""

    rank: int = 0
    world_size: int = 1
    accumulate: int | None = 1
    """Batches of one rank in a step; null takes the whole epoch as one step, as evaluation does."""


class BatchOrder:
    """The batches of one epoch for one rank: a function of (seed, epoch), their number the same in every epoch."""

    def __init__(self, groups: EncodedGroups, batching: Batching, seed: int, *, shuffle: bool, share: Share) -> None:
        self.groups, self.batching, self.seed, self.shuffle, self.share = groups, batching, seed, shuffle, share
        self.epoch = 0
        self.start = 0
        drawn = len(self._drawn())
        spare = groups.num_drawn - drawn  # a batch cannot be split below one group
        slack = min(batching.slack, spare / max(drawn, 1)) if shuffle else 0.0
        self.count = planned_count(drawn, slack, share.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def batches(self) -> Batches:
        """Return the batches of the epoch, for all ranks."""
        return adjust(self._drawn(), self.count)

    def _drawn(self) -> Batches:
        rng = np.random.default_rng(derive(self.seed, self.epoch)) if self.shuffle else None
        tokens = self.groups.prompt_tokens + self.groups.response_tokens
        return self.batching.compose(self.groups.draw(rng), tokens, rng)

    def __len__(self) -> int:
        return self.count // self.share.world_size

    def __iter__(self) -> Iterator[BatchPlan]:
        batches = self.batches()
        world = self.share.world_size
        step = world * (self.share.accumulate or len(self))
        start, self.start = self.start, 0
        totals = None
        for place in range(start * world, len(self) * world, world):
            if totals is None or place % step == 0:
                first = place - place % step
                totals = self._totals(batches[first : first + step])
            yield BatchPlan(batches[place + self.share.rank], totals)

    def _totals(self, batches: Batches) -> StepTotals:
        return totals_of(self.groups.counts(i) for batch in batches for i in batch)


class _Collated(Dataset[CandidateBatch]):
    """Fetches and collates the batch of a plan, in a worker where there are workers."""

    def __init__(self, groups: EncodedGroups) -> None:
        self.groups = groups

    def __getitem__(self, plan: BatchPlan) -> CandidateBatch:
        return CandidateBatch.of(self.groups[plan.indices], plan.totals, self.groups.attributes)


def _as_it_is(batch: Any) -> Any:
    return batch


def _as_arrays(batch: Any) -> Any:
    """Send a worker's batch through its pipe: tensors would each take an open file and room in /dev/shm."""
    return type(batch)(*(value.numpy() if isinstance(value, torch.Tensor) else value for value in batch))


def _as_tensors(batch: Any) -> Any:
    return type(batch)(*(torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in batch))


class BatchLoader:
    """Iterates over one epoch of CandidateBatches; knows how many it has handed over and resumes there."""

    def __init__(self, order: BatchOrder, fingerprint: str, num_workers: int = 0) -> None:
        self.sampler = order  # Lightning calls its set_epoch
        self.batch_sampler = None
        self.fingerprint = fingerprint
        own = torch.Generator().manual_seed(derive(order.seed, "loader"))  # nothing is drawn from the global stream
        self._loader: DataLoader[Any] = DataLoader(
            _Collated(order.groups),
            sampler=order,
            batch_size=None,
            collate_fn=_as_arrays if num_workers else _as_it_is,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=own,
        )
        self._given = 0
        self._resume: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[CandidateBatch]:
        done = 0
        if self._resume is not None:
            state, self._resume = self._resume, None
            if state["epoch"] == self.sampler.epoch:  # a checkpoint of a finished epoch names the one before
                done = self.sampler.start = state["batches"]
        self._given = done
        for batch in self._loader:
            self._given += 1
            yield _as_tensors(batch)

    def state_dict(self) -> dict[str, Any]:
        """Return epoch, batches handed over, and what must not change."""
        return {"epoch": self.sampler.epoch, "batches": self._given, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches of a saved state. Raises ResumeError where the data or its division changed."""
        for key, now in self._identity().items():
            if state[key] != now:
                raise ResumeError(f"cannot resume: {key} was {state[key]!r} in the checkpoint and is {now!r} now")
        self._resume = dict(state)

    def _identity(self) -> dict[str, Any]:
        order = self.sampler
        return {
            "fingerprint": self.fingerprint,
            "world_size": order.share.world_size,
            "batches_per_epoch": order.count,
            "seed": order.seed,
        }
