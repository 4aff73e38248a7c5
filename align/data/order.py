"""Which groups are computed when: steps that are a function of (seed, epoch), each with the totals of its loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Trainer

from align.data.batching import Batching, derive
from align.data.encoded_groups import EncodedGroups
from align.data.micro_batches import Batches
from align.data.positions import Positions
from align.records import RowLayout, StepTotals, totals_of


class BatchPlan(NamedTuple):
    """The groups of one micro-batch, and the totals of the optimiser step it belongs to."""

    indices: list[int]
    totals: StepTotals
    padding: bool = False
    """Whether the groups are only there so that every rank computes something, and count nothing."""
    others: tuple[int, ...] = ()
    """Another group of the step for each, where the method reads its response under the group's prompt."""


@dataclass(frozen=True)
class DistributedShard:
    """This process among all."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def of(cls, trainer: Trainer | None) -> DistributedShard:
        """Return the share of this process in a run; all of it without one."""
        return cls() if trainer is None else cls(trainer.global_rank, trainer.world_size)


class Order(ABC):
    """What one rank computes in an epoch."""

    def __init__(
        self,
        groups: EncodedGroups,
        batching: Batching,
        *,
        share: DistributedShard,
        others: bool = False,
        layout: RowLayout = RowLayout(),
    ) -> None:
        self.groups, self.batching, self.share, self.others = groups, batching, share, others
        self.layout = layout
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Any]: ...

    @abstractmethod
    def batches(self) -> Batches:
        """Return all batches of the epoch, of all ranks: whole steps where there are steps."""

    def positions(self, indices: Sequence[int] | np.ndarray) -> Positions:
        """Return what the groups of a step, or of an evaluation, take of a batch."""
        extents = self.groups.extents.take(np.asarray(indices))
        if self.others:
            extents = extents.beside(self.groups.extents.take(np.roll(indices, 1)))
        return Positions.of(extents, self.layout)

    def _plans(self, parts: Batches, totals: StepTotals, order: Iterable[int]) -> list[BatchPlan]:
        """Return the plans of some batches of a step, or of an evaluation, that has its groups in this order."""
        if not self.others:
            return [BatchPlan(part, totals) for part in parts]
        whole = list(order)
        before = dict(zip(whole, [*whole[-1:], *whole[:-1]], strict=True))
        return [BatchPlan(part, totals, others=tuple(before[i] for i in part)) for part in parts]

    def _totals(self, indices: Iterable[int]) -> StepTotals:
        places = [int(i) for i in indices]
        most = int(np.max(self.groups.sizes[places], initial=0))
        tokens = int(self.groups.prompt_tokens[places].sum() + self.groups.response_tokens[places].sum())
        return totals_of(map(self.groups.counts, places))._replace(group_candidates=most, tokens=tokens)


class StepOrder(Order):
    """The optimiser steps of an epoch: the order is a function of (seed, epoch), cut into steps before all else.

    So the steps are the same for any budget of tokens and any number of ranks. Each is a list of plans, equally many on
    every rank: a rank with fewer gets padding. One that repeats has the first epoch's order in all of them.
    """

    repeats: bool = False

    def __init__(
        self,
        groups: EncodedGroups,
        batching: Batching,
        seed: int,
        step: int,
        *,
        share: DistributedShard,
        others: bool = False,
        layout: RowLayout = RowLayout(),
    ) -> None:
        super().__init__(groups, batching, share=share, others=others, layout=layout)
        self.seed, self.step = seed, step

    def __len__(self) -> int:
        return math.ceil(self.groups.num_drawn / self.step)

    def batches(self) -> Batches:
        """Return the groups of every step."""
        rng = np.random.default_rng(derive(self.seed, 0 if self.repeats else self.epoch))
        order = rng.permutation(self.groups.draw(rng)).tolist()
        return [order[i : i + self.step] for i in range(0, len(order), self.step)]

    def __iter__(self) -> Iterator[list[BatchPlan]]:
        start, self.start = self.start, 0
        for step in self.batches()[start:]:
            yield self.plans(step)

    def plans(self, step: list[int]) -> list[BatchPlan]:
        """Return this rank's part of a step."""
        positions = self.positions(step)
        ranks = self.batching.divide(positions, self.share.world_size)
        empty, most = [int(positions.alone.argmin())], max(map(len, ranks))
        shares = [[[step[n] for n in batch] for batch in rank + [empty] * (most - len(rank))] for rank in ranks]
        own, real = shares[self.share.rank], len(ranks[self.share.rank])
        plans = self._plans(own, self._totals(step)._replace(**self._largest(shares)), step)
        return [plan._replace(padding=n >= real) for n, plan in enumerate(plans)]

    def _largest(self, shares: Iterable[Batches]) -> dict[str, int]:
        """Return the most groups, and the most response tokens, that a rank has of a step."""
        ranks = [[i for batch in batches for i in batch] for batches in shares]
        tokens = self.groups.response_tokens
        return {"rank_groups": max(map(len, ranks)), "rank_tokens": max(int(tokens[rank].sum()) for rank in ranks)}


class HeldOutSteps(StepOrder):
    """Every group once and in order, in steps: for an evaluation whose loss reads the whole of a step.

    Each has the groups of a step of training, the last ones up to twice as many, so that none is left alone.
    """

    @cached_property
    def _planned(self) -> Batches:
        order = self.groups.draw(None)
        return [part.tolist() for part in np.array_split(order, max(len(order) // self.step, 1))]

    def __len__(self) -> int:
        return len(self._planned)

    def batches(self) -> Batches:
        """Return the groups of every step."""
        return self._planned

    def _totals(self, indices: Iterable[int]) -> StepTotals:
        """Return those of the whole evaluation, over which means are taken."""
        return self._whole

    @cached_property
    def _whole(self) -> StepTotals:
        return super()._totals(self.groups.draw(None).tolist())
