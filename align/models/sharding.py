"""FSDP2: sharding a model over a device mesh, block by block."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from align.scoring.backbone import decoder, unwrapped


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every block on its own, and embeddings, final norm and head as one group.

    That group stays whole between forward and backward: the head runs outside the model's own forward.
    """
    data = mesh["data_parallel"]
    body = decoder(model)
    for block in _blocks(body):
        fully_shard(block, mesh=data)
    inner: Any = unwrapped(model)
    rest = [body, *(child for child in inner.children() if child is not body)]
    fully_shard(rest, mesh=data, reshard_after_forward=False)


def _blocks(body: nn.Module) -> nn.ModuleList:
    """Return the longest list of modules in a decoder: its blocks."""
    lists = [part for part in body.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len)
