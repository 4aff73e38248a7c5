"""Workers on a Ray cluster: the settings."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from align.errors import ConfigError


@dataclass(frozen=True)
class RayWorkers:
    """Processes on a Ray cluster that each load a model and do a part of the work, `pip install 'align-lm[ray]'`.

    Every worker is an actor of Ray Data with align's own engine in it, and draws the tokens that this process would.
    Folders are read where the workers run: they have to be on a disk that all machines share, unless Ray runs on this
    machine alone. A worker that dies is started again and its batch computed anew.
    """

    workers: int
    """How many processes."""
    address: str | None = None
    """HOST:PORT of a running cluster, or `auto` for the one this machine belongs to; null starts Ray here, on this
    machine alone, and ends it with the command."""
    gpus: float = 1.0
    """GPUs of each worker; 0 computes on CPUs."""
    cpus: int = 1
    """CPU cores of each worker, and threads it computes with."""
    patience: float = 600.0
    """Seconds in which no worker finishes a batch, its start and the loading of the model included, after which the
    command pauses."""

    def __post_init__(self) -> None:
        if self.workers < 1 or self.cpus < 1 or not 0 < self.patience < math.inf:
            raise ConfigError(
                f"RayWorkers: workers and cpus must be at least 1 and patience positive, got {self.workers}, "
                f"{self.cpus}, {self.patience:g}"
            )
        if not 0 <= self.gpus < math.inf or (self.gpus > 1 and self.gpus % 1):
            raise ConfigError(f"RayWorkers.gpus: expected a share of a GPU or a whole number, got {self.gpus:g}")
        if self.address not in (None, "auto") and not re.fullmatch(r"[^\s/:]+:\d{1,5}", self.address or ""):
            raise ConfigError(
                f"RayWorkers.address: expected HOST:PORT of the cluster's head, such as 10.0.0.1:6379, auto, or null, "
                f"got {self.address!r}"
            )

    @property
    def place(self) -> str:
        """Return what messages call the cluster."""
        if self.address is None:
            return "Ray on this machine"
        return "the Ray cluster of this machine" if self.address == "auto" else f"the Ray cluster at {self.address}"

    @property
    def each(self) -> str:
        """Return what a worker takes."""
        cores = f"{self.cpus} CPU core{'s' * (self.cpus > 1)}"
        return f"{cores} and {self.gpus:g} GPU{'s' * (self.gpus > 1)}" if self.gpus else cores
