"""Runs of two processes, forked with the environment that torchrun or SLURM gives them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from tests.resume.runs import KILLED, Run, batches_in, forked
from tests.test_configs import CPU, ROOT

TRAINER = ROOT / "configs" / "trainer"
STRATEGIES = {"ddp": "ddp_cpu.yaml", "fsdp2": "fsdp2.yaml"}
WORLD = 2
IN_CI = [pytest.param("ddp", id="ddp"), pytest.param("fsdp2", id="fsdp2", marks=pytest.mark.slow)]
"""Strategies of tests that do not depend on how parameters are held: the other one is for the long proofs."""


def command(method: str, pairs: Path, model: Path, *more: str, strategy: str | None = None) -> list[str]:
    """Five steps of eight pairs each epoch: four for each process, or all for one."""
    two = ["-c", str(TRAINER / STRATEGIES[strategy or "ddp"]), "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    one = ["-c", CPU]
    return [
        *("fit", "-c", str(ROOT / "configs" / "method" / f"{method}.yaml"), *(two if strategy else one)),
        *("--data", "PreferenceFileDataModule", "--data.path", str(pairs)),
        *("--data.batching.groups", "8", "--data.splits.val_fraction", "0", "--model.backbone.path", str(model)),
        *("--model.optimizer.learning_rate", "1e-3", *more),
    ]


def torchrun_environment(rank: int, port: int) -> dict[str, str]:
    names = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": WORLD, "LOCAL_WORLD_SIZE": WORLD}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests"}
    return {**place, **{name: str(value) for name, value in names.items()}}


def slurm_environment(rank: int, port: int) -> dict[str, str]:
    """What `srun --ntasks-per-node 2` sets for a batch job."""
    names = {"PROCID": rank, "LOCALID": rank, "NODEID": 0, "NTASKS": WORLD, "NTASKS_PER_NODE": WORLD, "JOB_ID": port}
    place = {"MASTER_PORT": str(port), "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NAME": "align"}
    return {**place, **{f"SLURM_{name}": str(value) for name, value in names.items()}}


class Pair(Run):
    """One command as two processes."""

    environment = staticmethod(torchrun_environment)

    def __call__(
        self,
        kill: tuple[str, int, int] | None = None,
        prepare: Callable[[], object] = lambda: None,
        *,
        rank: int = 0,
    ) -> int:
        """Start or go on; with `kill` this rank gets the signal at that moment; if it dies, so does the other one.

        As under torchrun, a process that fails takes the other one down. Returns the exit code of the first that failed.
        """
        port, dies = free_port(), kill is not None and kill[2] == NINE
        self.mark.unlink(missing_ok=True)

        def go(own: int) -> int:
            os.environ.update(self.environment(own, port))
            return self.go(kill if own == rank else None, prepare)

        processes = [forked(lambda own=own: go(own)) for own in range(WORLD)]  # type: ignore[misc]
        ended = wait([p.sentinel for p in processes])
        for process in processes:
            if process.sentinel in ended:
                process.join()  # its pipe closes a moment before its exit code is known
        failed = next((p.exitcode for p in processes if p.exitcode), 0)
        for process in processes:
            process.join(60 if not failed else 0 if dies else 10)
            assert failed or not process.is_alive(), f"the run hangs: {self.log[-2000:]}"
            process.kill()
            process.join()
        if dies and self.mark.exists():
            return KILLED
        return failed or next((p.exitcode for p in processes if p.exitcode), 0)

    @property
    def mark(self) -> Path:
        """The file a process touches before it dies."""
        return Path(f"{self.journal}.killed")

    def batches(self) -> list[list[Any]]:
        """Every batch of every rank."""
        return [batches_in(self.journal.with_name(f"{self.journal.name}.{rank}")) for rank in range(WORLD)]


def told_by_each(own: Callable[[int], int], folder: Path) -> list[str]:
    """Run a function of its rank in each of two processes, and return what each wrote to `told.RANK`."""
    processes = [forked(lambda rank=rank: own(rank)) for rank in range(WORLD)]  # type: ignore[misc]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [(folder / f"told.{rank}").read_text() for rank in range(WORLD)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


NINE = int(signal.SIGKILL)
