"""No collective is cut short by a process that samples or scores for longer than the time limit; one that is lost is named."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Callback

from align import distributed
from align.distributed import SilentProcessError, gather, meet, on_all, on_first, part
from tests.processes.runs import WORLD, Pair, command, free_port, told_by_each

LIMIT, LONG = 1.0, 1.6
"""Seconds of the time limit of collectives, and those for which one process works."""


def together(folder: Path, work: Callable[[int], object]) -> list[str]:
    """Return what two processes give, whose collectives have the limit."""
    port = free_port()

    def own(rank: int) -> int:
        store = dist.TCPStore("127.0.0.1", port, WORLD, rank == 0, timedelta(seconds=60))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=LIMIT))
        try:
            told = repr(work(rank))
        except RuntimeError as error:
            told = f"{type(error).__name__}: {error}"
        (folder / f"told.{rank}").write_text(told)
        if rank == 0:  # it keeps the store
            time.sleep(1)
        return 0

    return told_by_each(own, folder)


def slowly(value: int, rank: int | None = 0) -> int:
    """Return a value, on this rank after a long time."""
    if rank in (None, dist.get_rank()):
        time.sleep(LONG)
    return value


def test_a_collective_alone_is_cut_short(tmp_path: Path) -> None:
    """The time limit is what these processes have, or the other tests show nothing."""

    def work(rank: int) -> None:
        slowly(0)
        dist.all_reduce(torch.zeros(1))

    assert "RuntimeError" in together(tmp_path, work)[1]


def test_long_work_is_waited_for(tmp_path: Path) -> None:
    def work(rank: int) -> list[object]:
        meet()  # as the data do before they are read
        return [
            on_first(lambda: slowly(5)),
            on_first(lambda: 6),
            on_all(lambda: slowly(7, 1)),
            gather(slowly(8)),
            meet() or slowly(0),
            meet(),
            part(),
            gather(rank),
        ]

    assert together(tmp_path, work) == [repr([5, 6, [7, 7], [8, 8], 0, None, None, [0, 1]])] * WORLD


def test_a_process_that_is_lost_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "BEAT", 0.2)
    monkeypatch.setattr(distributed, "SILENCE", 1.0)

    def work(rank: int) -> None:
        monkeypatch.setattr("socket.gethostname", lambda: f"machine{rank}")
        meet()
        slowly(0)
        meet()
        if rank == 0:
            meet()
        else:  # as when its machine is gone: it says nothing, and no connection is closed
            assert distributed._place is not None
            distributed._place.ended.set()
            time.sleep(2.5)

    assert together(tmp_path, work)[0] == f"{SilentProcessError.__name__}: rank 1 on machine1 has said nothing for 1 s"


class Judging(Callback):
    """Works on the first process after validation, as callbacks that sample and judge do."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            time.sleep(15)
            print("judged")


@pytest.mark.slow
def test_a_run_waits_for_a_callback_of_the_first_process(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    limit = ["--trainer.strategy", "DDPStrategy", "--trainer.strategy.timeout", "0:00:10"]
    judging = ["--trainer.callbacks+", "tests.processes.test_patience.Judging", "--data.splits.val_fraction", "0.1"]
    steps = ["--trainer.max_steps", "2", "--trainer.num_sanity_val_steps", "0"]
    run = Pair(tmp_path / "run", [*command("sft", pairs_file, model_folder, strategy="ddp"), *limit, *judging, *steps])
    assert run() == 0, run.log
    assert "judged" in run.log
