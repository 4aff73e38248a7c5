"""FSDP2: sharding a model over a device mesh, block by block."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

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


def shard(model: nn.Module, mesh: DeviceMesh, precision: str = "32-true") -> None:
    """Shard every block on its own, and embeddings, final norm and head as one group.

    Scoring calls decoder and head apart, so the decoder's call is made a forward method of the whole: it gathers that
    group, which stays gathered until the backward pass, also for the head (it may share the embeddings' weight).

    Lightning's mesh has the nodes as rows and, by default, a node's processes as columns (`tensor_parallel`). No tensor
    is split here, so every process is a data rank: weights are sharded over the columns and repeated over the rows.

    Under `bf16-mixed` blocks are gathered in bfloat16, which autocast would make of their weights anyway, and gradients
    summed in float32. Their inputs stay as they are and the other group is gathered whole, so that what flows between
    blocks is float32, as in one process: only norms see other weights than there, rounded ones.
    """
    data = mesh if mesh["tensor_parallel"].size() > 1 else mesh["data_parallel"]
    inner: Any = unwrapped(model)
    half = torch.bfloat16 if precision == "bf16-mixed" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=half and torch.float32, cast_forward_inputs=False)
    for block in _blocks(decoder(model)):
        fully_shard(block, mesh=data, mp_policy=policy)
    fully_shard(inner, mesh=data, reshard_after_forward=False)
    setattr(inner, RUN_DECODER, MethodType(_call_decoder, inner))
    register_fsdp_forward_method(inner, RUN_DECODER)


def _call_decoder(self: Any, **inputs: Any) -> Any:
    return decoder(self)(**inputs)


def _blocks(body: nn.Module) -> nn.ModuleList:
    """Return the longest list of modules in a decoder: its blocks."""
    lists = [part for part in body.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len)
