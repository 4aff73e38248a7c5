"""What an optimiser step is made of, and how it is cut into micro-batches that fit in memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from align.errors import ConfigError

Batches = list[list[int]]
WINDOW = 50
"""Batches whose groups are sorted by length together, where nothing is trained."""


@dataclass(frozen=True)
class Batching:
    """Groups of an optimiser step, and the tokens that are in memory at once."""

    groups: int | None = None
    """Groups (pairs, lists, rows) of an optimiser step, over all processes; null takes the method's usual: 112 for
    PRO, 128 for SimPO and RAHF's good and bad adapters, 8 for RAHF-Dual, 16 for LoRRA, 64 for all others. The last step
    of an epoch has what is left."""
    tokens: int = 4096
    """Prompt and response tokens that one device computes at once, each prompt counted once; a longer group is computed
    by itself. It changes memory and speed, never a step, its loss or its gradient."""
    group_by_length: bool = True
    """Compute groups of similar length together, which pads little; false keeps the order."""
    num_workers: int = 0
    """Loader processes; 0 collates in the training process. For `data.streaming` 1 reads and tokenises ahead."""
    shuffle_window: int | None = None
    """Rows that are read and shuffled together where `data.streaming` is true; null is 10,000, 0 keeps the order."""

    def __post_init__(self) -> None:
        for name, lowest in (("groups", 1), ("tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ConfigError(f"batching.{name} must be at least {lowest}, got {value}")
        if self.num_workers < 0:
            raise ConfigError(f"batching.num_workers must not be negative, got {self.num_workers}")

    def fill(self, order: Sequence[int], lengths: np.ndarray, budget: int | None = None) -> Batches:
        """Cut an order of groups into micro-batches: a new one begins where the next group would exceed the budget."""
        budget = budget or self.tokens
        batches: Batches = [[]]
        used = 0
        for index in order:
            if batches[-1] and used + lengths[index] > budget:
                batches.append([])
                used = 0
            batches[-1].append(int(index))
            used += int(lengths[index])
        return batches

    def divide(self, step: np.ndarray, lengths: np.ndarray, ranks: int) -> list[Batches]:
        """Cut a step into micro-batches and deal them to the ranks, the longest first.

        Ranks get equally many as far as there are groups; a rank may get none.
        """
        order = step[np.argsort(-lengths[step], kind="stable")] if self.group_by_length else step
        count = math.ceil(len(self.fill(order.tolist(), lengths)) / ranks) * ranks
        batches = self._evenly(order.tolist(), lengths, count)
        while len(batches) < min(count, len(step)):
            widest = max((b for b in batches if len(b) > 1), key=lambda b: lengths[b].sum())
            batches.remove(widest)
            batches += halves(widest, lengths)
        batches.sort(key=lambda b: -lengths[b].sum())
        return [batches[rank::ranks] for rank in range(ranks)]

    def _evenly(self, order: list[int], lengths: np.ndarray, count: int) -> Batches:
        """Fill up to `count` micro-batches with the smallest budget that is enough for all."""
        high = self.tokens
        low = min(math.ceil(lengths[order].sum() / count), high)
        while low < high:
            middle = (low + high) // 2
            if len(self.fill(order, lengths, middle)) <= count:
                high = middle
            else:
                low = middle + 1
        return self.fill(order, lengths, high)

    def in_order(self, indices: np.ndarray, lengths: np.ndarray, ranks: int) -> Batches:
        """Return micro-batches of groups that nothing is trained on, a multiple of the ranks.

        Raises ConfigError when there are fewer groups than ranks.
        """
        order = indices
        if self.group_by_length and len(order):
            size = max(int(WINDOW * self.tokens / max(lengths.mean(), 1)), 1)
            windows = [order[i : i + size] for i in range(0, len(order), size)]
            order = np.concatenate([w[np.argsort(lengths[w], kind="stable")] for w in windows])
        batches = self.fill(order.tolist(), lengths)
        return split_up(batches, math.ceil(len(batches) / ranks) * ranks)


def derive(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def halves(batch: list[int], lengths: np.ndarray) -> Batches:
    """Cut a batch of two groups or more in two, of about as many tokens."""
    sums = np.cumsum(lengths[batch])
    place = int(np.abs(sums[:-1] - sums[-1] / 2).argmin()) + 1
    return [batch[:place], batch[place:]]


def split_up(batches: Batches, count: int) -> Batches:
    """Split the largest batches until there are `count`. Raises ConfigError when there are fewer groups than that."""
    batches = [list(b) for b in batches]
    groups = sum(map(len, batches))
    if groups < count:
        raise ConfigError(
            f"{groups} groups of data cannot fill {count} batches, one for each process: use fewer processes or more "
            "data (data.splits.val_fraction decides how much is held out)"
        )
    while len(batches) < count:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        half = len(batches[largest]) // 2
        batches.append(batches[largest][half:])
        batches[largest] = batches[largest][:half]
    return batches
