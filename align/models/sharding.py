"""FSDP2: sharding a model over a device mesh, block by block."""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from align.scoring.backbone import decoder, unwrapped


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every block on its own, and embeddings, final norm and head as one group.

    Scoring calls decoder and head apart, so the decoder's call is made a forward method of the whole: it gathers that
    group, which stays gathered until the backward pass, also for the head (it may share the embeddings' weight).

    Lightning's mesh has the nodes as rows and, by default, a node's processes as columns (`tensor_parallel`). No tensor
    is split here, so every process is a data rank: weights are sharded over the columns and repeated over the rows.
    """
    data = mesh if mesh["tensor_parallel"].size() > 1 else mesh["data_parallel"]
    inner: Any = unwrapped(model)
    for block in _blocks(decoder(model)):
        fully_shard(block, mesh=data)
    fully_shard(inner, mesh=data, reshard_after_forward=False)
    inner.run_decoder = MethodType(_run_decoder, inner)
    register_fsdp_forward_method(inner, "run_decoder")


def _run_decoder(self: Any, **inputs: Any) -> Any:
    return decoder(self)(**inputs)


def _blocks(body: nn.Module) -> nn.ModuleList:
    """Return the longest list of modules in a decoder: its blocks."""
    lists = [part for part in body.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len)
