"""What an optimiser step is made of, and how it is cut into micro-batches that fit in memory."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from align.data.micro_batches import Batches, dealt, filled, levelled, split_up
from align.data.positions import Positions
from align.errors import ConfigError

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
    """Positions that one device computes at once: prompt and response tokens, each prompt counted once, and the padding
    of a layout that pads (`backbone.layout`). A larger group is computed by itself, which the start says. It changes
    memory and speed, never a step, its loss or its gradient."""
    group_by_length: bool = True
    """Choose by length what is computed together: it pads little, and all processes end together; false keeps the
    order."""
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

    def divide(self, positions: Positions, ranks: int) -> list[Batches]:
        """Cut the groups of a step into micro-batches and deal them to the ranks, which get about as many positions.

        They get equally many micro-batches as far as there are groups; a rank may get none.
        """
        if self.group_by_length and (positions.widths == 1).all():
            return levelled(positions.rows, self.tokens, ranks)
        order = np.arange(len(positions.rows))
        if self.group_by_length:
            order = np.lexsort((-positions.rows, -positions.widths, positions.apart))
        return dealt(order, positions, self.tokens, ranks)

    def in_order(self, positions: Positions, ranks: int) -> Batches:
        """Return micro-batches of groups that nothing is trained on, a multiple of the ranks where groups are enough.

        Raises ConfigError when there are fewer groups than ranks.
        """
        order = np.arange(len(positions.rows))
        windows = [order]
        if self.group_by_length and len(order):
            size = max(int(WINDOW * self.tokens / positions.alone.mean()), 1)
            windows = [order[i : i + size] for i in range(0, len(order), size)]
            windows = [w[np.lexsort((positions.widths[w], positions.apart[w]))] for w in windows]
        batches = [batch for window in windows for batch in filled(window, positions, self.tokens)]
        count = math.ceil(len(batches) / ranks) * ranks
        return split_up(batches, positions, max(min(count, len(order)), ranks))


def derive(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
