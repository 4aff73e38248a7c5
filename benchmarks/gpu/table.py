"""The table: one line as soon as a number is there, and a JSON file that is whole after every line."""

from __future__ import annotations

import datetime
import gc
import json
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from align.files import atomic_write_text

UNITS = {
    "groups_per_s": "groups/s",
    "tokens_per_s": "tokens/s",
    "ms_per_step": "ms/step",
    "peak_gib": "GiB peak",
    "useful_tflops": "useful TFLOP/s",
}
HIDDEN = ("waits_at", "top_kernels_ms", "top_host_ms")
"""What is in the file alone."""


class OutOfTime(BaseException):
    """A measurement took more than its share of the time; no Exception, after which compilers go on."""


class Table:
    """Measurements by section and name, and what is left of the time for all."""

    def __init__(self, out: Path, seconds: float) -> None:
        self.out, self._end = out, time.monotonic() + seconds
        self.found: dict[str, Any] = {"machine": machine()}
        out.mkdir(parents=True, exist_ok=True)
        for name, value in self.found["machine"].items():
            print(f"{name}: {value}", flush=True)

    @property
    def left(self) -> float:
        """Return the seconds that are left."""
        return self._end - time.monotonic()

    def measure(self, section: str, name: str, cap: float, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a piece of work within a cap of seconds, show what it found or how it failed, and return it."""
        started = time.monotonic()
        cap = min(cap, self.left)
        if cap < 1:
            found: dict[str, Any] = {"failed": "left out: no time is left"}
        else:
            try:
                with limited(cap):
                    found = work()
            except (Exception, OutOfTime) as error:  # a measurement that a machine refuses is a result
                found = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        found = {**found, "took_s": round(time.monotonic() - started, 1)}
        gc.collect()  # an exception holds the frames it passed through, and they the tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.found.setdefault(section, {})[name] = found
        atomic_write_text(self.out / "gpu.json", json.dumps(self.found, indent=1) + "\n")
        print(f"{section:<10} {name:<22} {line(found)}", flush=True)
        return found


def line(found: dict[str, Any]) -> str:
    """Return the numbers of a measurement in one line."""
    shown = ((name, value) for name, value in found.items() if name not in HIDDEN and value is not None)
    return "; ".join(f"{readable(value)} {UNITS.get(name, name)}" for name, value in shown)


def readable(value: Any) -> str:
    """Return a number with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block when so much time has passed."""

    def end(*_: Any) -> None:
        raise OutOfTime(f"more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)  # again, where it was raised inside a destructor
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def machine() -> dict[str, str]:
    """Return what the numbers depend on beside the code."""
    import lightning
    import transformers

    found = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "lightning": lightning.__version__,
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else f"none, {platform.machine()}",
    }
    if torch.cuda.is_available():
        found |= {"card memory": f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.1f} GiB"}
        found |= {"driver, clocks": nvidia("driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit")}
    return found


def nvidia(query: str) -> str:
    """Return what the driver says of the first card."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"not told ({type(error).__name__})"
