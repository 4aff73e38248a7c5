"""What went wrong outside of our own checks, in one line: files, memory, processes, settings that Lightning refuses."""

from __future__ import annotations

import errno
import re
import traceback

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException
from torch.distributed import DistNetworkError

from align.cli.verbs import LIGHTNING_VERBS
from align.errors import shorten

Line = tuple[str, int]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain_fault(error: Exception) -> Line | None:
    """Return one line and an exit code, None for what may be a mistake of the program and deserves its traceback."""
    if ended := _loader_that_ended(error):
        advice = "probably for want of memory; lower data.batching.num_workers, then give the same command again"
        return f"a loader process ended, expected it to outlive the run ({shorten(ended, 120)}): {advice}", 3
    if isinstance(error, OSError):
        return _file(error), 3
    if isinstance(error, DistNetworkError):
        return f"the processes cannot meet: {shorten(error, 200)}: unset MASTER_PORT, or choose a free one", 3
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in str(error):
        advice = (
            "lower data.batching.tokens or model.backbone.logit_bytes, or set model.backbone.gradient_checkpointing"
        )
        return f"out of memory ({shorten(error, 160)}): {advice}", 3
    refused = _refused(error)
    return None if refused is None else (refused, 2)


def _refused(error: Exception) -> str | None:
    """Return what a library said of settings that it refuses, None for another error."""
    if isinstance(error, OmegaConfBaseException):
        return _not_filled_in(str(error))
    named = isinstance(error, ValueError | ModuleNotFoundError) and _from_lightning(error)
    return shorten(error, 400) if named or isinstance(error, MisconfigurationException) else None


def _loader_that_ended(error: BaseException | None) -> RuntimeError | None:
    """Return what torch raised at the end of a loader process; in a signal handler, whatever the program was doing.

    An error that came while this one was handled is its consequence.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
            return error
        error = error.__context__
    return None


def _not_filled_in(told: str) -> str:
    """Return what omegaconf says of a setting that names another, with places as they stand in files."""
    told = re.sub(rf"\b(?:{'|'.join(LIGHTNING_VERBS)})\.(?=\w)", "", told)
    place = re.search(r"full_key: (\S+)", told)
    advice = "name another setting by its whole place, as in ${data.init_args.batching.groups}"
    return f"{f'--{place[1]}' if place else 'settings'}: {shorten(told.splitlines()[0], 200)}: {advice}"


def _file(error: OSError) -> str:
    reason = error.strerror or shorten(error, 200)
    place = shorten(error.filename, 200) if error.filename else "a file of the run"
    advice = "make room" if error.errno in FULL else "check the path and its permissions"
    if error.errno == errno.EMFILE:
        advice = "raise the limit on open files (`ulimit -n`)"
    return f"{place}: {reason}: {advice}, then give the same command again (--debug shows where)"


def _from_lightning(error: Exception) -> bool:
    """Tell whether Lightning's own code raised this: a setting of the trainer that it checks and refuses."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "/lightning/" in frames[-1].filename.replace("\\", "/")
