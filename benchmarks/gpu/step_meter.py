"""What a training step costs: time of the steps between two marks, then waits of one step and kernels of another."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from align.records import Step
from benchmarks.meter import Work

SYNCHRONIZING = "synchronizing CUDA operation"


class Stopwatch:
    """Seconds of a device between two moments, by its own events; of the process on a CPU."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self._start = self._mark()

    def _mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def stop(self) -> float:
        """Return the seconds since the watch was made."""
        end = self._mark()
        if not self.cuda:
            return float(end - self._start)
        torch.cuda.synchronize()
        return float(self._start.elapsed_time(end)) / 1e3


def restart_peak(device: str) -> None:
    """Forget the most memory used so far."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device: str) -> float:
    """Return the most memory used since, in GiB; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0


class StepMeter(Callback):
    """Measures a run from inside: `warm_up` steps, `steps` that are timed, and two more that are looked into."""

    def __init__(self, device: str, warm_up: int, steps: int, profiled: bool = False) -> None:
        self.device, self.first, self.last = device, warm_up, warm_up + steps
        self.profiled = profiled
        self.losses = list[torch.Tensor]()
        self.prompts, self.responses = list[int](), list[list[int]]()
        self.micro_batches = 0
        self.found: dict[str, Any] = {}
        self._caught: Any = None
        self._profiler: Any = None

    @property
    def total(self) -> int:
        """Return the steps of the run."""
        return self.last + (self.device == "cuda") + self.profiled

    @property
    def work(self) -> Work:
        """Return the groups of the timed steps."""
        return Work(self.prompts, self.responses)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note what a timed step holds."""
        if self.first <= trainer.global_step < self.last:
            for part in batch if isinstance(batch, Step) else [batch]:
                lengths = iter(part.response_lengths)
                self.prompts += part.prompt_lengths
                self.responses += [[next(lengths) for _ in range(size)] for size in part.group_sizes]
                self.micro_batches += 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start and stop the clock, then the counts: each from the end of a step to the end of the next."""
        self.losses.append(outputs["loss"].detach())
        done = trainer.global_step
        if done == self.first:
            restart_peak(self.device)
            self._watch = Stopwatch(self.device)
        if done == self.last:
            self.found["seconds"], self.found["peak_gib"] = self._watch.stop(), peak_gib(self.device)
        if self.device == "cuda" and done == self.last:
            self._catch()
        elif self._caught is not None:
            self._count_waits()
        if self.profiled and done == self.total - 1:
            self._profiler = torch.profiler.profile()
            self._profiler.start()
        elif self._profiler is not None:
            self._count_kernels()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the device as it was after a run that failed in a counted step."""
        if self._caught is not None:
            self._count_waits()

    def _catch(self) -> None:
        self._caught = warnings.catch_warnings(record=True)
        self._warned = self._caught.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")

    def _count_waits(self) -> None:
        torch.cuda.set_sync_debug_mode("default")
        self._caught.__exit__(None, None, None)
        self._caught = None
        waits = [warning for warning in self._warned if SYNCHRONIZING in str(warning.message)]
        self.found["waits"] = len(waits)
        places = Counter(f"{Path(w.filename).parent.name}/{Path(w.filename).name}:{w.lineno}" for w in waits)
        self.found["waits_at"] = dict(places.most_common(12))

    def _count_kernels(self) -> None:
        self._profiler.stop()
        events = self._profiler.key_averages()
        self._profiler = None
        on_device = [e for e in events if e.device_type != torch.autograd.DeviceType.CPU and not e.is_user_annotation]
        self.found["kernels"] = sum(e.count for e in on_device)
        self.found["device_ms"] = sum(e.self_device_time_total for e in on_device) / 1e3
        self.found["top_kernels_ms"] = top(on_device, "self_device_time_total")
        on_host = [e for e in events if e.device_type == torch.autograd.DeviceType.CPU]
        self.found["host_ms"] = sum(e.self_cpu_time_total for e in on_host) / 1e3
        self.found["top_host_ms"] = top(on_host, "self_cpu_time_total")


def top(events: list[Any], time_of: str, count: int = 10) -> dict[str, list[float]]:
    """Return the events that take most: milliseconds and calls by name."""
    ordered = sorted(events, key=lambda e: -getattr(e, time_of))[:count]
    return {e.key[:80]: [round(getattr(e, time_of) / 1e3, 3), e.count] for e in ordered}
