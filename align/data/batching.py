"""How groups are put together into batches: by a budget of tokens, or a fixed number at a time."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from align.errors import ConfigError

Batches = list[list[int]]
WINDOW = 50
"""Batches whose groups are sorted by length together."""


@dataclass(frozen=True)
class Batching(ABC):
    """Puts groups into batches of similar length."""

    group_by_length: bool = True
    """Sort by length inside windows of 50 batches, so that a batch pads little; false keeps a random order."""
    num_workers: int = 0
    """Loader processes; 0 collates in the training process."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ConfigError(f"batching.num_workers must not be negative, got {self.num_workers}")

    slack: ClassVar[float] = 0.0
    """Share of batches an epoch has more than the first draw needed, so that every epoch has the same number."""

    @abstractmethod
    def fill(self, order: Sequence[int], tokens: np.ndarray) -> Batches:
        """Cut an order of groups into batches; `tokens` is the length of every group."""

    @abstractmethod
    def per_batch(self, tokens: np.ndarray) -> float:
        """Return how many groups a batch holds on average."""

    def compose(self, indices: np.ndarray, tokens: np.ndarray, rng: np.random.Generator | None) -> Batches:
        """Return the batches of the given groups, each group in exactly one; shuffled where there is an `rng`."""
        order = indices if rng is None else rng.permutation(indices)
        if self.group_by_length and len(order):
            size = max(int(WINDOW * self.per_batch(tokens)), 1)
            windows = [order[i : i + size] for i in range(0, len(order), size)]
            order = np.concatenate([w[np.argsort(tokens[w], kind="stable")] for w in windows])
        batches = self.fill(order.tolist(), tokens)
        if rng is not None:
            rng.shuffle(batches)
        return batches


@dataclass(frozen=True)
class TokenBudget(Batching):
    """As many groups as fit into a number of tokens, each prompt counted once; a longer group is a batch of its own."""

    tokens: int = 4096
    """Prompt and response tokens of a micro-batch on one device."""

    slack = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 1:
            raise ConfigError(f"batching.tokens must be at least 1, got {self.tokens}")

    def per_batch(self, tokens: np.ndarray) -> float:
        """Return the groups of average length that fill the budget."""
        return float(self.tokens / max(tokens.mean(), 1))

    def fill(self, order: Sequence[int], tokens: np.ndarray) -> Batches:
        """Start a new batch when the next group would exceed the budget."""
        batches: Batches = [[]]
        used = 0
        for index in order:
            if batches[-1] and used + tokens[index] > self.tokens:
                batches.append([])
                used = 0
            batches[-1].append(index)
            used += int(tokens[index])
        return batches


@dataclass(frozen=True)
class FixedSize(Batching):
    """The same number of groups in every batch but the last."""

    groups: int = 8
    """Groups of a micro-batch on one device."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 1:
            raise ConfigError(f"batching.groups must be at least 1, got {self.groups}")

    def per_batch(self, tokens: np.ndarray) -> float:
        """Return the number of groups."""
        return self.groups

    def fill(self, order: Sequence[int], tokens: np.ndarray) -> Batches:
        """Cut the order into equal pieces."""
        return [list(order[i : i + self.groups]) for i in range(0, len(order), self.groups)]


def derive(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def planned_count(drawn: int, slack: float, world_size: int) -> int:
    """Return the batches of every epoch, a multiple of the ranks, from the number the first draw needed."""
    return math.ceil(math.ceil(drawn * (1 + slack)) / world_size) * world_size


def adjust(batches: Batches, count: int) -> Batches:
    """Split the largest batches, or join the smallest, until there are exactly `count`; no group is lost or repeated.

    Raises ConfigError when there are fewer groups than batches.
    """
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
    while len(batches) > count:
        batches.sort(key=len, reverse=True)
        batches[-2].extend(batches.pop())
    return batches
