"""Processes that save beside their work and are killed at any moment leave a whole checkpoint, or none."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from align.training.checkpoint_io import AtomicCheckpointIO, fault_of, write_whole
from align.training.shard_files import ENDING
from align.training.sharded_strategy import ShardedStrategy
from tests.resume.runs import checkpoint_of, forked

KILLS = 100
ROWS = 4096


def strategy_of(rank: int, meet: Path) -> ShardedStrategy:
    """Return a strategy in a group of two, as a Trainer sets it up."""
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    strategy = ShardedStrategy(save_beside_training=True)
    strategy.cluster_environment = SimpleNamespace(global_rank=lambda: rank, world_size=lambda: 2)  # type: ignore[assignment]
    strategy.checkpoint_io = AtomicCheckpointIO()
    return strategy


def saving(rank: int, folder: Path, meet: Path) -> int:
    """Save step after step, weights and moment alike, changed while they are written; until killed."""
    strategy = strategy_of(rank, meet)
    mesh = init_device_mesh("cpu", (2,))
    weights = distribute_tensor(torch.zeros(ROWS, 16), mesh, [Shard(0)])
    moment = weights.clone()
    for step in range(1, 10_000):
        weights.fill_(step)
        moment.fill_(step)
        checkpoint: dict[str, Any] = {**checkpoint_of(step, torch.zeros(0)), "state_dict": {"a": weights}}
        checkpoint["optimizer_states"] = [{"state": {"a": {"exp_avg": moment}}, "param_groups": [{"params": ["a"]}]}]
        strategy.finish()
        strategy.save_checkpoint(checkpoint, folder / "last.ckpt")
    return 0


@pytest.mark.slow
def test_kills_leave_whole_checkpoints(tmp_path: Path) -> None:
    """Each kill hits one process or both; the folder is that of the kills before."""
    folder, draw, last, seen = tmp_path / "checkpoints", random.Random(0), 0, set[int]()
    folder.mkdir()
    for number in range(KILLS):
        meet = tmp_path / f"meet{number}"
        processes = [forked(partial(saving, rank, folder, meet)) for rank in range(2)]
        while not list(folder.glob(".*.part")) and all(p.is_alive() for p in processes):
            time.sleep(0.005)  # the first save has begun
        time.sleep(draw.uniform(0, 0.6))
        for process in draw.sample(processes, draw.choice([1, 2])):
            os.kill(process.pid or 0, signal.SIGKILL)
        for process in processes:
            process.join(0.3)
            process.kill()
            process.join()
        checkpoint = folder / "last.ckpt"
        write_whole(SimpleNamespace(checkpoint_io=TorchCheckpointIO(), is_global_zero=True), folder)
        assert not list(folder.glob(".*"))
        assert len(list(folder.glob(f"*{ENDING}"))) == checkpoint.exists()
        if checkpoint.exists():
            assert fault_of(checkpoint) == ""
            loaded = AtomicCheckpointIO().load_checkpoint(checkpoint)
            step = loaded["global_step"]
            for values in (loaded["state_dict"]["a"], loaded["optimizer_states"][0]["state"][0]["exp_avg"]):
                assert torch.equal(values, torch.full((ROWS, 16), float(step)))
            last = step
            seen.add(step)
    print(f"\n{KILLS} kills, steps {sorted(seen)} found whole")
    assert last
