"""Every group once and in order, as one whole: what evaluations and predictions compute."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import Any

from align.data.batching import Batching
from align.data.encoded_groups import EncodedGroups
from align.data.micro_batches import Batches
from align.data.order import BatchPlan, Order

Limit = int | float
"""How many batches of each process are computed, or what share of them where it is a float, as Lightning has it."""


class PassOrder(Order):
    """Every group once and in order, as one whole; under a limit, a part of them spread over all.

    The batches of the part come first, and totals are over their groups alone: what a loss is divided by is what it is
    over. They lie evenly in the order, in which short groups may stand before long ones.
    """

    def __init__(self, groups: EncodedGroups, batching: Batching, *, limit: Limit = 1.0, **reading: Any) -> None:
        super().__init__(groups, batching, **reading)
        self.limit = limit

    def __len__(self) -> int:
        return len(self._rounds)

    def batches(self) -> Batches:
        """Return the micro-batches of all ranks."""
        return list(chain.from_iterable(self._rounds))

    @cached_property
    def _rounds(self) -> list[Batches]:
        """Return what the ranks compute at once; in one of them some may have nothing, who get padding."""
        order, ranks = self.groups.draw(None), self.share.world_size
        batches = [order[part].tolist() for part in self.batching.in_order(self.positions(order), ranks)]
        rounds = [batches[i : i + ranks] for i in range(0, len(batches), ranks)]
        first = spread(len(rounds), self.limit)
        rest = sorted(set(range(len(rounds))) - set(first))
        return [rounds[n] for n in [*first, *rest]]

    def __iter__(self) -> Iterator[BatchPlan]:
        rank, order = self.share.rank, self.groups.draw(None).tolist()
        computed = self._rounds[: len(spread(len(self), self.limit))]
        totals = self._totals(i for batches in computed for batch in batches for i in batch)
        own = [batches[rank] if rank < len(batches) else batches[0][:1] for batches in self._rounds]
        for plan, batches in zip(self._plans(own, totals, order), self._rounds, strict=True):
            yield plan._replace(padding=rank >= len(batches))


def spread(count: int, limit: Limit) -> list[int]:
    """Return the places of as many of `count` things as a limit leaves: the middles of as many parts of one size."""
    kept = min(count, limit) if isinstance(limit, int) else int(count * limit)
    return [(2 * n + 1) * count // (2 * kept) for n in range(kept)]
