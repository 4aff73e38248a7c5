"""What the ranks of a step tell each other of its rows: threads stand in for processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.multi_threaded_pg import _install_threaded_pg, _uninstall_threaded_pg

from align.distributed import on_any
from align.training.representation_metrics import Alignment, LayerErrorProfile
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


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("held", [(False, False, False), (False, True, False)])
def test_what_holds_on_one_rank_is_known_on_all(held: tuple[bool, ...]) -> None:
    assert on_ranks(lambda rank: on_any(held[rank], "cpu"), 3) == [any(held)] * 3


def aligned(tokens: int, seed: int) -> Alignment:
    """Return states of two layers, of which the policy has gone some of the way."""
    torch.manual_seed(seed)
    delta, base, vector = torch.randn(3, 2, tokens, 4)
    errors, places = (delta - 5 * vector).norm(dim=-1), torch.arange(tokens) % 3
    return Alignment(delta, base, vector, errors, torch.rand(tokens), torch.zeros(tokens), places)


@pytest.mark.usefixtures("threads")
def test_the_picture_of_what_is_left_is_of_all_ranks() -> None:
    """By the definition: distances to `alpha v` over the lengths of `alpha v`, by layer and place, of both ranks."""
    parts = [aligned(7, 0), aligned(3, 1)]

    def own(rank: int) -> torch.Tensor | None:
        profile = LayerErrorProfile()
        profile.add(parts[rank], 5.0)
        return profile.read()

    for found in on_ranks(own, 2):
        assert found is not None
        for layer in range(2):
            for place in range(3):
                here = [(part, part.places == place) for part in parts]
                left = sum((part.errors[layer, at] * part.weights[at]).sum().item() for part, at in here)
                way = sum(
                    (5 * part.vector[layer, at].norm(dim=-1) * part.weights[at]).sum().item() for part, at in here
                )
                assert found[layer, place].item() == pytest.approx(left / way, rel=1e-6)
