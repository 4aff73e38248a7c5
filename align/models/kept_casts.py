"""What autocast makes of weights, kept while they do not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.tensor import DTensor


@contextmanager
def casts_kept(model: nn.Module) -> Iterator[None]:
    """Let autocast make 16 bits of each trained weight once: no weight may change in here.

    Lightning's mixed precision keeps no casts, so that every token that is drawn would cast all weights again, which
    reads and writes four times what the token itself reads. The copies take 2 bytes a trained weight until the end.
    Without autocast, or for a model that FSDP2 shards, which gathers 16 bits anyway, nothing is kept.
    """
    device = next(model.parameters()).device.type
    if not torch.is_autocast_enabled(device) or _sharded(model):
        yield
        return
    try:
        with torch.autocast(device, torch.get_autocast_dtype(device), cache_enabled=True):
            yield
    finally:
        torch.clear_autocast_cache()


def _sharded(model: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())
