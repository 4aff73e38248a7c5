"""Steps of writing a checkpoint that all processes take, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from align.errors import StoreError
from align.training.checkpoint_io import check_space, reason_of


def prepare(path: Path, part: Path) -> None:
    """Make the temporary folder of a checkpoint's shards. Raises StoreError where the disk has no room for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    check_space(path)
    part.mkdir()


def together(group: Any, path: Path, step: Callable[[], Any]) -> list[Any]:
    """Return what a step gives on every process. Raises StoreError on all where it fails on one."""
    result, fault = None, None
    try:
        result = step()
    except (OSError, RuntimeError, CheckpointException, StoreError) as error:
        fault = error
    told: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(told, (result, fault and reason_of(fault, path)), group=group)
    if reasons := [reason for _, reason in told if reason]:
        raise StoreError(f"checkpoint {path} not written: {reasons[0]}") from fault
    return [own for own, _ in told]
