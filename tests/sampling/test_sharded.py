"""Two processes that each draw their own samples of one sharded model: as many tokens as they like, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from align.checks.trust import CHECKED, trust
from align.distributed import IN_COLLECTIVE, on_all
from align.errors import ConfigError
from align.models.packed_attention import use_packed_attention
from align.models.references import FrozenCopy
from align.models.sharding import shard
from align.sampling.checked import ENGINES, LocalEngine
from align.sampling.engine import Engine
from align.sampling.generation import Generation, Job, Request
from align.sampling.logit_mixture import LogitMixture, MixtureEngine
from align.scoring import score_responses
from align.scoring.decoder import decoder
from tests.models.test_reference import disturb
from tests.processes.runs import WORLD, free_port, told_by_each
from tests.tiny import tiny_model, tiny_tokenizer

LENGTHS = (9, 3)
"""Tokens that each process draws of a sample."""
PROMPTS = [[0, 9, 10, 11, 12], [0, 20, 21]]


def together(folder: Path, work: Callable[[int], object], *, meet: bool = True) -> list[str]:
    """Return what two processes of a group give, which meet in the end unless one leaves the other alone."""
    port = free_port()

    def own(rank: int) -> int:
        store = dist.TCPStore("127.0.0.1", port, WORLD, rank == 0)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
        (folder / f"told.{rank}").write_text(repr(work(rank)))
        if meet:
            dist.barrier()
        return 0

    return told_by_each(own, folder)


def policy() -> Any:
    model = tiny_model("llama", torch.float64)
    use_packed_attention(model)
    return model


def sharded(model: Any) -> Any:
    shard(model, init_device_mesh("cpu", (1, WORLD), mesh_dim_names=("data_parallel", "tensor_parallel")))
    return model


def local(whole: bool, engine: str | None = None) -> Engine:
    model = policy() if whole else sharded(policy())
    if engine is not None:
        setattr(model, CHECKED, engine)
    return LocalEngine(model, tiny_tokenizer(), [])


def gathered_whole(whole: bool) -> Engine:
    return LocalEngine(policy() if whole else sharded(policy()), tiny_tokenizer(), [], whole_weights=True)


def mixture(whole: bool) -> Engine:
    """A policy some way from its reference, which is a second model."""
    model = policy()
    reference = FrozenCopy().build(model, None, None, score_responses)  # type: ignore[arg-type]
    disturb(model)
    if not whole:
        sharded(model)
        sharded(reference.model)
    return MixtureEngine(model, reference, LogitMixture([0.4]), tokenizer=tiny_tokenizer(), eos_ids=[])


def drawn(engine: Any, rank: int) -> list[list[int]]:
    """What a process draws: beside the other, beside it after one has checked its engine anew, alone, not at all."""
    found = []
    for turn, count in enumerate((1, 1, 2 * (rank == 0))):
        if turn == rank == 1 and isinstance(engine, MixtureEngine):
            delattr(engine.policy, CHECKED)
        with engine.in_step():
            for ids in PROMPTS[:count]:
                job = Job(0, Request.of_ids(ids), range(2))
                (completions,) = engine.generate([job], Generation(LENGTHS[rank], num_samples=2))
                found += [completion.ids for completion in completions]
    return found


@pytest.mark.parametrize(
    "make", [local, *(partial(local, engine=name) for name in list(ENGINES)[1:]), gathered_whole, mixture]
)
def test_each_draws_what_it_would_alone(make: Callable[[bool], Engine], tmp_path: Path) -> None:
    told = together(tmp_path, lambda rank: drawn(make(False), rank))
    alone = [drawn(make(True), rank) for rank in range(WORLD)]
    assert told == [repr(own) for own in alone]
    assert {len(ids) for own in alone for ids in own} == set(LENGTHS)


def test_an_error_between_calls_is_one_of_both(tmp_path: Path) -> None:
    """The other process goes on to the end of its samples, and hears of it then."""

    def work(rank: int) -> str:
        engine, seen = local(False), []

        def draw() -> None:
            with engine.in_step():
                if rank == 1:
                    raise ConfigError("a fault of the second process")
                seen.append(engine.generate([Job(0, Request.of_ids([0, 5]), range(1))], Generation(3)))

        with pytest.raises(ConfigError) as error:
            on_all(draw)
        return f"{error.value} after {len(seen)}"

    assert together(tmp_path, work) == [repr(f"a fault of the second process after {n}") for n in (1, 0)]


def test_an_error_inside_a_call_is_raised_at_once(tmp_path: Path) -> None:
    """The other process waits for this one's weights, and sees that they do not come when it has ended."""

    def work(rank: int) -> str:
        model = sharded(policy())
        engine = LocalEngine(model, tokenizer=tiny_tokenizer(), eos_ids=[])
        trust(model)

        def fail(*_: Any) -> None:
            raise MemoryError("no room")

        def draw() -> object:
            with engine.in_step():
                return engine.generate([Job(0, Request.of_ids([0, 5]), range(1))], Generation(3))

        if rank == 1:
            decoder(model).layers[1].mlp.register_forward_pre_hook(fail)
        try:
            on_all(draw)
        except MemoryError as error:
            return f"{error} {getattr(error, IN_COLLECTIVE)}"
        except RuntimeError:
            return "left alone"
        return "nothing"

    assert together(tmp_path, work, meet=False) == [repr("left alone"), repr("no room True")]
