"""Runs of real modules by the real Trainer, fed with known lengths."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import SingleDeviceStrategy

from align.callbacks.throughput import Throughput
from align.data.batching import Batching
from align.models.backbone import Backbone
from align.records import EncodedGroup
from align.training.base_module import AlignModule
from benchmarks.gpu.known_lengths import KnownLengths
from benchmarks.gpu.shapes import Shape
from benchmarks.gpu.step_meter import StepMeter

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""FLOP per second of dense bfloat16 products, by what the card's name says."""


class Unlogged(Logger):
    """Takes metrics as a file would, and keeps none."""

    name, version = "none", "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Drop them."""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Drop them."""


class Staying(SingleDeviceStrategy):
    """Leaves the model where it is at the end: Lightning would move 8 GB to the CPU between two measurements."""

    def teardown(self) -> None:
        """Undo what precision has set up, and no more."""
        self.precision_plugin.teardown()


@dataclass(frozen=True)
class Run:
    """A training run to be measured."""

    make: Callable[[Backbone], AlignModule]
    shape: Shape
    groups: list[EncodedGroup]
    tokens: int
    """Budget of a micro-batch."""
    step_groups: int = 64
    warm_up: int = 3
    steps: int = 10
    passes: float = 3.0
    """Forward passes that a step is worth: 3 to train, 1 for a reference, 2 where base weights are frozen."""
    head: bool = True
    profiled: bool = False
    """Whether the kernels of one step more are counted."""
    backbone: dict[str, Any] = field(default_factory=dict)
    """Settings of the backbone."""

    def measure(self, device: str) -> dict[str, Any]:
        """Train, and return what was measured."""
        with tempfile.TemporaryDirectory() as folder, quiet():
            module = built(self.make, self.shape, Path(folder), device, **self.backbone)
            meter = StepMeter(device, self.warm_up, self.steps, self.profiled)
            data = KnownLengths(self.groups, Batching(groups=self.step_groups, tokens=self.tokens), module)
            L.seed_everything(0, verbose=False)
            trainer_of(device, meter, folder).fit(module, data)
            return self._found(meter)

    def _found(self, meter: StepMeter) -> dict[str, Any]:
        seconds, work = meter.found["seconds"], meter.work
        useful = work.flops(self.shape.config, head=self.head) / 3 * self.passes
        return {
            "groups_per_s": len(work.prompts) / seconds,
            "tokens_per_s": work.tokens / seconds,
            "ms_per_step": 1e3 * seconds / self.steps,
            "useful_tflops": useful / seconds / 1e12,
            "mfu": mfu(useful / seconds),
            "micro_batches_per_step": meter.micro_batches / self.steps,
            "first_loss": float(meter.losses[0]),
            "last_loss": float(meter.losses[-1]),
            **{name: value for name, value in meter.found.items() if name != "seconds"},
        }


def mfu(flop_per_s: float) -> float | None:
    """Return the share of the card's peak, None for a card whose peak is not known."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((peak for card, peak in PEAKS.items() if card in name), None)
    return flop_per_s / peak if peak else None


def built(
    make: Callable[[Backbone], AlignModule], shape: Shape, folder: Path, device: str, **settings: Any
) -> AlignModule:
    """Return a module whose random weights were made on the device; its checks against plain passes are off."""
    module = make(Backbone(shape.folder(folder / "model"), random_init=True, check=False, **settings))
    torch.manual_seed(0)
    with torch.device(device):
        module.build_model()
    return module


def trainer_of(device: str, meter: StepMeter, folder: str) -> L.Trainer:
    """Return a Trainer as `align fit` has one on a GPU, without files."""
    place = torch.device(device, 0) if device == "cuda" else torch.device(device)
    return L.Trainer(
        accelerator="gpu" if device == "cuda" else device,
        devices=1,
        strategy=Staying(place),
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        max_epochs=-1,
        max_steps=meter.total,
        limit_val_batches=0,
        callbacks=[Throughput(), meter],
        logger=Unlogged(),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


@contextlib.contextmanager
def quiet() -> Any:
    """Keep Lightning's lines out of the table."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
