"""Runs that are killed: a forked process that fits by the real command and dies where it is told to."""

from __future__ import annotations

import faulthandler
import gc
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from align.cli.main import main
from align.training.checkpoint_io import AtomicCheckpointIO
from tests.tiny import FEW_SAMPLES

KILL = "ALIGN_TEST_KILL"
"""JSON of (moment, count, signal): die at the count-th time this process passes the moment."""
TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
KILL_RANK = "ALIGN_TEST_KILL_RANK"
"""The local rank that dies, where one command starts several processes."""


class Killer(Callback):
    """Writes down every batch it sees and sends itself a signal at one moment."""

    def __init__(self, journal: str) -> None:
        self.journal = journal
        self.passed: dict[str, int] = {}

    def at(self, moment: str) -> None:
        where, count, number = json.loads(os.environ.get(KILL, '["", 0, 0]'))
        self.passed[moment] = self.passed.get(moment, 0) + 1
        own = os.environ.get("LOCAL_RANK", "0")
        if moment == where and self.passed[moment] == count and own == os.environ.get(KILL_RANK, own):
            Path(f"{self.journal}.killed").touch()
            os.kill(os.getpid(), number)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        rank = f".{trainer.global_rank}" if trainer.world_size > 1 else ""
        with open(self.journal + rank, "a", encoding="utf-8") as file:
            print(json.dumps([trainer.current_epoch, batch_idx, batch.ids]), file=file, flush=True)
        self.at("batch_start")

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.at("before_step")

    def on_train_batch_end(self, *_: Any) -> None:
        self.at("batch_end")

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.at("validation_start")

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.at("validation_batch")

    def on_validation_end(self, *_: Any) -> None:
        self.at("validation_end")

    def on_train_epoch_end(self, *_: Any) -> None:
        self.at("epoch_end")

    def on_save_checkpoint(self, *_: Any) -> None:
        self.at("save")


def every_touch(act: Callable[[], object]) -> None:
    """Act whenever this process touches a file from now on."""

    def watch(event: str, _: object) -> None:
        if event in TOUCHES:
            act()

    sys.addaudithook(watch)


def after_touches(count: int, act: Callable[[], None]) -> None:
    """Act at the count-th time this process touches a file from now on, however long it takes."""
    left = iter(range(count - 1, -1, -1))
    every_touch(lambda: act() if next(left, -1) == 0 else None)


PATIENCE = 240
"""Seconds after which a forked process hangs: it prints where each of its threads is, and ends with 1."""


def forked(function: Callable[[], int]) -> BaseProcess:
    """Start a function in a forked process, whose exit code is what it returns, negative for a signal."""

    def child() -> None:
        gc.freeze()  # what the parent left behind is not taken apart here, where the threads that belong to it are not
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=2)
        os.environ.pop("PL_GLOBAL_SEED", None)
        torch.set_num_threads(1)
        os._exit(function())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


def in_fork(function: Callable[[], int]) -> int:
    """Run a function in a forked process and return its exit code."""
    process = forked(function)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


class Run:
    """One command in one folder, run until it is finished or killed."""

    def __init__(self, root: Path, arguments: list[str]) -> None:
        self.root, self.journal = root, root.with_suffix(".journal")
        watch = ["--trainer.callbacks+", "tests.resume.runs.Killer", "--trainer.callbacks.journal", str(self.journal)]
        self.words = [*arguments, *FEW_SAMPLES, "--trainer.default_root_dir", str(root), *watch]

    def __call__(self, kill: tuple[str, int, int] | None = None, prepare: Callable[[], object] = lambda: None) -> int:
        """Start or go on; with `kill` die at that moment. `prepare` changes the process before it begins."""

        return in_fork(lambda: self.go(kill, prepare))

    def go(self, kill: tuple[str, int, int] | None = None, prepare: Callable[[], object] = lambda: None) -> int:
        """Run the command in this process, its output in the log."""
        prepare()
        os.environ["ALIGN_IMPORT_ALLOW"] = "tests"
        if kill:
            os.environ[KILL] = json.dumps(kill)
        log = os.open(self.root.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = sys.stderr = os.fdopen(log, "a", buffering=1)
        return main(self.words)

    @property
    def log(self) -> str:
        return self.root.with_suffix(".log").read_text()

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained parameters and the optimiser's moments at the end."""
        checkpoint = AtomicCheckpointIO().load_checkpoint(self.root / "checkpoints" / "last.ckpt")
        moments = checkpoint["optimizer_states"][0]["state"]
        extra = {f"{k}.{n}": v for k, s in moments.items() for n, v in s.items() if isinstance(v, torch.Tensor)}
        return {**checkpoint["state_dict"], **extra}

    def batches(self) -> list[list[Any]]:
        """Every batch in order; one that was seen again after a kill counts once, and must be the same."""
        return batches_in(self.journal)


def batches_in(journal: Path) -> list[list[Any]]:
    """Return what one process wrote down."""
    seen: dict[tuple[int, int], list[str]] = {}
    for line in journal.read_text().splitlines():
        epoch, place, ids = json.loads(line)
        assert seen.setdefault((epoch, place), ids) == ids, f"batch {place} of epoch {epoch} changed"
    return [[*key, seen[key]] for key in sorted(seen)]


def same(left: Run, right: Run) -> None:
    """Assert equal weights, to the bit, and equal batches."""
    one, two = left.weights(), right.weights()
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert not different, f"{len(different)} of {len(one)} tensors differ, first {different[0]}"
    assert left.batches() == right.batches()


KILLED = -signal.SIGKILL


def checkpoint_of(step: int, values: torch.Tensor) -> dict[str, Any]:
    """Return the least that a checkpoint holds."""
    return {"global_step": step, "state_dict": {"a": values}, "pytorch-lightning_version": "2.6.6"}
