"""What share of a training step goes to seeding, loading, logging, the gradient norm and saving: medians of CPU time.

    python benchmarks/overhead.py --model DIR --data FILE_OR_DIR [--groups 8] [--steps 60]

Trains DPO on HH-RLHF pairs by the real Trainer and measures the parts from inside, in CPU seconds of this process, so
that other load on the machine does not count. Collation is what a batch costs after its tokens have been read.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from align.callbacks.throughput import Throughput
from align.data.batching import Batching
from align.data.encoded_groups import EncodedGroups
from align.data.encoding import EncodingConfig
from align.data.hh_rlhf import HHRLHFDataModule
from align.data.loader import BatchLoader
from align.files import HashingWriter
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.records import CandidateBatch
from align.training import base_module, recording
from align.training.checkpoint_io import AtomicCheckpointIO

Seconds = dict[str, list[float]]
WARM_UP = 5


class Clock(L.Callback):
    """Collects the CPU time of named parts, step by step."""

    def __init__(self) -> None:
        self.now: dict[str, float] = defaultdict(float)
        self.steps: Seconds = defaultdict(list)
        self.rare: Seconds = defaultdict(list)
        self.started: float | None = None

    def timed(self, name: str, function: Callable[..., Any], *, rare: bool = False) -> Callable[..., Any]:
        """Return the function with a clock around it."""

        def inner(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent = time.process_time() - start
                if rare:
                    self.rare[name].append(spent)
                else:
                    self.now[name] += spent

        return inner

    def around(self, owner: Any, attribute: str, name: str, *, rare: bool = False) -> None:
        """Put a clock around a function for the rest of this process."""
        setattr(owner, attribute, self.timed(name, getattr(owner, attribute), rare=rare))

    def on_train_batch_end(self, *_: Any) -> None:
        """Close the step: from the end of the one before, loading included."""
        now = time.process_time()
        if self.started is not None:
            self.now["step"] = now - self.started
            for name, seconds in self.now.items():
                self.steps[name].append(seconds)
        self.started, self.now = now, defaultdict(float)


def watched() -> Clock:
    """Put clocks around the parts."""
    clock = Clock()
    clock.around(base_module, "seed_step", "seeding")
    clock.around(recording, "total_norm", "gradient norm")
    clock.around(base_module.AlignModule, "record", "logging: recording means")
    clock.around(base_module.AlignModule, "log", "logging: self.log")
    clock.around(recording.Means, "read", "logging: reading means")
    clock.around(TensorBoardLogger, "log_metrics", "logging: tensorboard")
    clock.around(EncodedGroups, "__getitem__", "loader: reading rows")
    clock.around(AtomicCheckpointIO, "save_checkpoint", "save", rare=True)
    clock.around(HashingWriter, "write", "save: write and hash", rare=True)
    collate = clock.timed("collation", CandidateBatch.of)
    CandidateBatch.of = staticmethod(collate)  # type: ignore[method-assign, assignment]
    whole = BatchLoader.__iter__

    def batches(loader: BatchLoader) -> Any:
        iterator = whole(loader)
        advance = clock.timed("loader: all", lambda: next(iterator, None))
        while (batch := advance()) is not None:
            yield batch

    BatchLoader.__iter__ = batches  # type: ignore[method-assign]
    return clock


def report(clock: Clock, size: int) -> str:
    """Return a table of medians and shares."""
    step = statistics.median(clock.steps["step"][WARM_UP:])
    lines = [f"{'step':<28}{step * 1e3:10.3f} ms  100.00 %"]
    for name in sorted(clock.steps.keys() - {"step"}):
        spent = statistics.median(clock.steps[name][WARM_UP:])
        lines.append(f"{name:<28}{spent * 1e3:10.3f} ms  {spent / step:7.2%}")
    save, writing = statistics.median(clock.rare["save"]), sum(clock.rare["save: write and hash"])
    lines.append(f"one save of {size / 2**20:.1f} MiB{'':<10}{save * 1e3:10.3f} ms  {save / step:7.2%} of one step")
    lines.append(f"of it written and hashed{'':<4}{writing / len(clock.rare['save']) * 1e3:10.3f} ms")
    return "\n".join(lines)


def measure(model: str, data: str, groups: int, steps: int, folder: Path) -> str:
    """Train for some steps and return the table."""
    clock = watched()
    module = DPOModule(Backbone(model))
    pairs = HHRLHFDataModule(
        data,
        batching=Batching(groups=groups, tokens=10**9),
        encoding=EncodingConfig(cache_dir=str(folder / "cache")),
        max_samples=2000,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        log_every_n_steps=1,
        logger=TensorBoardLogger(folder, name="", version=""),
        callbacks=[Throughput(), clock],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    trainer.fit(module, pairs)
    last = folder / "checkpoints" / "last.ckpt"
    for _ in range(5):
        trainer.save_checkpoint(last)
    return report(clock, last.stat().st_size)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    L.seed_everything(0, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        print(measure(options.model, options.data, options.groups, options.steps, Path(folder)))


if __name__ == "__main__":
    main()
