"""How groups are cut into micro-batches within a budget of positions, and dealt to ranks that are to end together."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

import numpy as np

from align.data.positions import Positions
from align.errors import ConfigError

Batches = list[list[int]]
LEVEL = 0.95
"""Ranks are level enough when the mean of their positions is such a share of the most."""
FINER = 4
"""Tries to make them so by a micro-batch more on each."""
_Sized = tuple[int, int, int, bool]
"""The place of a group, its rows, its width, and whether it stands apart."""


def filled(order: np.ndarray, positions: Positions, budget: int) -> Batches:
    """Cut an order of groups into batches: a new one begins where the next group would exceed the budget."""
    return _fill(_sized(order, positions), budget)


def levelled(sizes: np.ndarray, budget: int, ranks: int) -> list[Batches]:
    """Deal groups that are not padded to ranks, and cut what each has into as many batches, of about as many positions.

    Twice, the largest that is left goes where least is so far (Graham's longest processing time first).
    """
    order = np.argsort(-sizes, kind="stable")
    values = sizes.tolist()
    shares = _level(order.tolist(), values, ranks)
    least = [max(sizes[share].sum() / budget, (2 * sizes[share] > budget).sum()) for share in shares if share]
    count = max(math.ceil(max(least)), 1)
    while True:
        found = [[part for part in _level(share, values, count) if part] for share in shares]
        if all(len(batch) == 1 or sum(values[n] for n in batch) <= budget for share in found for batch in share):
            return found
        count += 1


def dealt(order: np.ndarray, positions: Positions, budget: int, ranks: int) -> list[Batches]:
    """Cut an order of groups into batches and deal them to ranks: into as few as are enough, more to make ranks level.

    The longest come first, and of every round the longest goes to the rank that has least so far. Ranks get equally
    many as far as there are groups.
    """
    groups = _sized(order, positions)
    rounds = math.ceil(len(_fill(groups, budget)) / ranks)
    best: list[Batches] = []
    most = math.inf
    for more in range(FINER):
        batches = _evenly(groups, positions, budget, (rounds + more) * ranks)
        found, sums = _deal(batches, [positions.together(batch) for batch in batches], ranks)
        if max(sums) < most:
            best, most = found, max(sums)
        if sum(sums) >= LEVEL * max(sums) * ranks or len(batches) == len(groups):
            break
    return best


def split_up(batches: Batches, positions: Positions, count: int) -> Batches:
    """Split the largest batches until there are `count`. Raises ConfigError when there are fewer groups than that."""
    if (groups := sum(map(len, batches))) < count:
        raise ConfigError(
            f"{groups} groups of data cannot fill {count} batches, one for each process: use fewer processes or more "
            "data (data.splits.val_fraction decides how much is held out)"
        )
    batches = list(batches)
    while len(batches) < count:
        _halve(batches, max(batches, key=len), positions)
    return batches


def _sized(order: np.ndarray, positions: Positions) -> list[_Sized]:
    return list(zip(order.tolist(), *(column[order].tolist() for column in positions), strict=True))


def _fill(groups: Iterable[_Sized], budget: int) -> Batches:
    batches: Batches = []
    used, widest, kind = 0, 0, None
    for place, rows, width, apart in groups:
        wide = max(width, widest)
        if apart is not kind or (used + rows) * wide > budget:
            batches.append([])
            used, wide, kind = 0, width, apart
        batches[-1].append(place)
        used, widest = used + rows, wide
    return batches


def _evenly(groups: list[_Sized], positions: Positions, budget: int, count: int) -> Batches:
    """Cut groups in their order into so many batches, fewer where there are fewer groups, by the smallest budget."""
    low, high = min(math.ceil(positions.alone.sum() / count), budget), budget
    while low < high:
        middle = (low + high) // 2
        if len(_fill(groups, middle)) <= count:
            high = middle
        else:
            low = middle + 1
    batches = _fill(groups, high)
    while len(batches) < min(count, len(groups)):
        _halve(batches, max((b for b in batches if len(b) > 1), key=positions.together), positions)
    return batches


def _deal(batches: Batches, sizes: list[int], ranks: int) -> tuple[list[Batches], list[int]]:
    """Return the batches of every rank, and the positions it has in all."""
    found: list[Batches] = [[] for _ in range(ranks)]
    sums = [0] * ranks
    order = sorted(range(len(batches)), key=lambda n: -sizes[n])
    for first in range(0, len(order), ranks):
        free = sorted(range(ranks), key=lambda rank: sums[rank])
        for n, rank in zip(order[first : first + ranks], free, strict=False):
            found[rank].append(batches[n])
            sums[rank] += sizes[n]
    return found, sums


def _level(order: list[int], sizes: list[int], count: int) -> Batches:
    """Share groups out, those of an order one after the other, each to the part that has least; parts may be empty."""
    parts: Batches = [[] for _ in range(count)]
    heap = [(0, n) for n in range(count)]
    for place in order:
        full, n = heap[0]
        parts[n].append(place)
        heapq.heapreplace(heap, (full + sizes[place], n))
    return parts


def _halve(batches: Batches, batch: list[int], positions: Positions) -> None:
    """Put two batches in the place of one of two groups or more, of about as many positions."""
    sums = np.cumsum(positions.alone[batch])
    middle = int(np.abs(sums[:-1] - sums[-1] / 2).argmin()) + 1
    place = batches.index(batch)
    batches[place : place + 1] = [batch[:middle], batch[middle:]]
