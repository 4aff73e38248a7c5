"""FSDP2: sharding a model over a device mesh, block by block."""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from align.errors import ConfigError
from align.scoring.decoder import RUN_DECODER, decoder, unwrapped


def refuse_sharded_files(strategy: Any) -> None:
    """Raise ConfigError for a strategy that writes every shard to a file of its own.

    Lightning writes those straight into their place, where a kill leaves half of them, and reads them back only where
    the checkpoint holds every parameter, frozen ones too. One file gathered on the first process is whole or absent.
    """
    for setting, whole in (("save_distributed_checkpoint", False), ("state_dict_type", "full")):
        if getattr(strategy, f"_{setting}", whole) != whole:
            raise ConfigError(
                f"strategy {type(strategy).__name__} would write sharded checkpoints, of which a kill leaves half: set "
                f"its {setting} to {str(whole).lower()} (see configs/trainer/fsdp2.yaml)"
            )


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
    setattr(inner, RUN_DECODER, MethodType(_call_decoder, inner))
    register_fsdp_forward_method(inner, RUN_DECODER)


def _call_decoder(self: Any, **inputs: Any) -> Any:
    return decoder(self)(**inputs)


def _blocks(body: nn.Module) -> nn.ModuleList:
    """Return the longest list of modules in a decoder: its blocks."""
    lists = [part for part in body.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len)
