"""The random stream of a step: a function of (seed, rank, epoch, batch), so that nothing has to be saved."""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np
import torch


def run_seed() -> int:
    """Return the seed given to `seed_everything`, or 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def seed_step(rank: int, epoch: int, batch: int) -> None:
    """Set the random streams of torch, numpy and random to those of one batch of this run."""
    digest = hashlib.sha256(repr((run_seed(), rank, epoch, batch)).encode()).digest()
    seed = int.from_bytes(digest[:8], "big") >> 1
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
