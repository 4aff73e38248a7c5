"""What the ranks of a step tell each other of its rows: threads stand in for processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.multi_threaded_pg import _install_threaded_pg, _uninstall_threaded_pg

from align.training.step_quantiles import gathered_rows

ROWS = (2, 0, 3)
"""Of each rank."""


@pytest.fixture
def threads() -> Iterator[None]:
    """Let every thread be a process of its own for `torch.distributed`."""
    _install_threaded_pg()
    torch._C._distributed_c10d._set_thread_isolation_mode(True)
    try:
        yield
    finally:
        torch._C._distributed_c10d._set_thread_isolation_mode(False)
        _uninstall_threaded_pg()


def on_ranks(function: Callable[[int], Any], count: int) -> list[Any]:
    store = dist.HashStore()

    def run(rank: int) -> Any:
        dist.init_process_group("threaded", rank=rank, world_size=count, store=store)
        try:
            return function(rank)
        finally:
            dist.destroy_process_group()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("most", [3, 7, 0])
def test_every_rank_has_the_rows_of_all(most: int) -> None:
    """By hand: rows 1 to 5 in the order of the ranks, zeros between them, as many as the loader or the ranks said."""
    whole = torch.tensor([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0], [4.0, 1.0], [5.0, 1.0]])
    parts, size = whole.split(list(ROWS)), most or max(ROWS)
    for rank, (found, first) in enumerate(on_ranks(lambda rank: gathered_rows(parts[rank], most), len(ROWS))):
        assert found.shape == (size * len(ROWS), 2)
        assert first == rank * size
        assert torch.equal(found[found[:, 1] == 1], whole)
        assert torch.equal(found[first : first + ROWS[rank]], parts[rank])
