"""What several processes share while a round is made: one keeps the store, all draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    """Return this process's number, 0 without a group."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _several() else 1


def on_first(function: Callable[[], T]) -> T:
    """Run on the first process and return its result on all; an error there is raised on all."""
    if not _several():
        return function()
    told: list[Any] = [None, None]
    if rank() == 0:
        try:
            told[0] = function()
        except Exception as error:
            told[1] = error
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    result: T = told[0]
    return result


def on_all(function: Callable[[], T]) -> list[T]:
    """Run on every process and return all results on all; an error on one of them is raised on all."""
    if not _several():
        return [function()]
    told: list[Any] = [None, None]
    try:
        told[0] = function()
    except Exception as error:
        told[1] = error
    found = gather(told)
    for _, fault in found:
        if fault is not None:
            raise fault
    return [result for result, _ in found]


def gather(value: T) -> list[T]:
    """Return the values of all processes, on all."""
    if not _several():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def sum_over_ranks(sums: Tensor) -> Tensor:
    """Return sums over all processes, on the device where they are."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    return sums


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
