"""What several processes share: values, work of one of them, and waiting for those that still work.

Collectives have a time limit, for processes that hang. One that samples or scores for longer is no such process: `meet`
waits for it without a limit, so that no collective begins before all have come to it.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
BEAT = 5.0
"""Seconds after which a process says again that it runs."""
SILENCE = 120.0
"""Seconds without a word after which a process is lost, with its machine: the launcher knows of those that end."""


IN_COLLECTIVE = "in_collective"
"""Attribute of an error raised where the other processes wait in a collective for the one that raised it."""


class SilentProcessError(dist.DistError):
    """A process that others wait for says no more that it runs."""


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
    meet()
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    result: T = told[0]
    return result


def on_all(function: Callable[[], T]) -> list[T]:
    """Run on every process and return all results on all; an error on one of them is raised on all.

    One inside a collective is raised at once: nobody would come to hear of it.
    """
    if not _several():
        return [function()]
    told: list[Any] = [None, None]
    try:
        told[0] = function()
    except Exception as error:
        if getattr(error, IN_COLLECTIVE, False):
            raise
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
    meet()
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def sum_over_ranks(sums: Tensor) -> Tensor:
    """Return sums over all processes, on the device where they are."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    return sums


def on_any(value: bool, device: torch.device | str) -> bool:
    """Return whether something holds on any process, by a collective on this device; the CPU waits for it."""
    return bool(sum_over_ranks(torch.tensor(float(value), device=device)) > 0)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def meet() -> None:
    """Wait until every process is here, for as long as the others work. Every process calls.

    Raises SilentProcessError where one is lost, and another DistError where the process that keeps the store is.
    """
    global _place  # noqa: PLW0603
    if not _several():
        return
    if _place is None or _place.group is not dist.group.WORLD:
        _place = _Place()
    _place.meet()


def part() -> None:
    """Meet for the last time: from now on processes may end."""
    global _place  # noqa: PLW0603
    meet()
    if _place is not None:
        _place.ended.set()
        _place = None
        dist.barrier()


class _Place:
    """Where the processes of a group meet, and say that they run: the store by which they found each other."""

    def __init__(self) -> None:
        told = [secrets.token_hex(4)]
        dist.broadcast_object_list(told)  # a launcher may keep the store of processes that were here before
        self.group: Any = dist.group.WORLD
        default: Any = dist.distributed_c10d._get_default_store()
        store = default.clone()
        store.set_timeout(timedelta(seconds=SILENCE))
        self.store = dist.distributed_c10d.PrefixStore(f"align/{told[0]}", store)
        self.rank, self.count, self.beats, self.ended = rank(), 0, 0, threading.Event()
        self.hosts = [""] * world_size()
        dist.all_gather_object(self.hosts, socket.gethostname())
        self.keys = [f"runs/{number}" for number in range(len(self.hosts))]
        if len(set(self.hosts)) > 1:  # on one machine the launcher sees what ends
            self._tell()
            dist.barrier()
            threading.Thread(target=self._go_on_telling, daemon=True).start()

    def _tell(self) -> None:
        self.beats += 1
        self.store.set(self.keys[self.rank], str(self.beats))

    def _go_on_telling(self) -> None:
        while not self.ended.wait(BEAT):
            try:
                self._tell()
            except RuntimeError:  # the process that keeps the store has ended, which the main thread sees by itself
                return

    def meet(self) -> None:
        self.count += 1
        key, pause, listened = f"met/{self.count}", 0.001, time.monotonic()
        heard: dict[int, tuple[bytes, float]] = {}
        self.store.add(key, 1)
        while self.store.add(key, 0) < len(self.hosts):
            if self.beats and time.monotonic() - listened > BEAT:
                listened = time.monotonic()
                self._listen(heard)
            time.sleep(pause)
            pause = min(2 * pause, 0.2)
        dist.barrier()  # nobody ends, and takes the store with it, while another has yet to look
        if self.rank == 0:
            self.store.delete_key(key)

    def _listen(self, heard: dict[int, tuple[bytes, float]]) -> None:
        now = time.monotonic()
        for number, beat in enumerate(self.store.multi_get(self.keys)):
            if heard.setdefault(number, (beat, now))[0] != beat:
                heard[number] = (beat, now)
            elif now - heard[number][1] > SILENCE:
                raise SilentProcessError(f"rank {number} on {self.hosts[number]} has said nothing for {SILENCE:.0f} s")


_place: _Place | None = None
