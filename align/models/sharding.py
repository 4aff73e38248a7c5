"""FSDP2: sharding a model over a device mesh, block by block, each process from its own part of the weights."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from align.errors import ConfigError
from align.models.own_parts import put_back, taken_out
from align.models.quantised import keep_states
from align.models.streamed_weights import keep_conversions
from align.scoring.decoder import RUN_DECODER, decoder, unwrapped

M_MMAP_THRESHOLD = -3
"""glibc's name for the size from which memory is the kernel's own, and given back when it is freed."""
IS_GATHERED = "is_gathered"
"""Where a sharded model keeps that its embeddings and head are gathered until a context ends."""
AROUND_DECODER = "around_decoder"
"""Where a sharded model keeps what is called before and after a call of its decoder alone."""


def refuse_sharded_files(strategy: Any) -> None:
    """Raise ConfigError for a strategy of Lightning that writes every shard to a file of its own.

    Lightning writes those straight into their place, where a kill leaves half of them, and reads them back only where
    the checkpoint holds every parameter, frozen ones too. One file gathered on the first process is whole or absent.
    """
    for setting, whole in (("save_distributed_checkpoint", False), ("state_dict_type", "full")):
        if getattr(strategy, f"_{setting}", whole) != whole:
            raise ConfigError(
                f"strategy {type(strategy).__name__} would write sharded checkpoints, of which a kill leaves half: "
                "take -c configs/trainer/fsdp2.yaml, whose are whole or absent, or "
                f"set its {setting} to {str(whole).lower()}"
            )


def shard(model: nn.Module, mesh: DeviceMesh, precision: str = "32-true", prefetch: int = 1) -> None:
    """Shard every block on its own, and embeddings, final norm and head as one group.

    Scoring calls decoder and head apart, so the decoder's call is made a forward method of the whole: it gathers that
    group, which stays gathered until the backward pass, also for the head (it may share the embeddings' weight).

    Lightning's mesh has the nodes as rows and, by default, a node's processes as columns (`tensor_parallel`). No tensor
    is split here, so every process is a data rank: weights are sharded over the columns and repeated over the rows.

    Under `bf16-mixed` blocks are gathered in bfloat16, which autocast would make of their weights anyway, and gradients
    summed in float32. Their inputs stay as they are and the other group is gathered whole, so that what flows between
    blocks is float32, as in one process: only norms see other weights than there, rounded ones.

    Each process takes its part out of the weights as they are, and nothing of the rest is copied or moved to a device.

    `prefetch` is the number of blocks that are gathered while the one before them runs.
    """
    data = _data(mesh)
    inner: Any = unwrapped(model)
    keep_conversions(inner)
    keep_states(inner, mesh.device_type)
    half = torch.bfloat16 if precision == "bf16-mixed" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=half and torch.float32, cast_forward_inputs=False)
    weights = taken_out(inner)
    blocks = list(_blocks(decoder(model)))
    for block in blocks:
        fully_shard(block, mesh=data, mp_policy=policy)
    fully_shard(inner, mesh=data, reshard_after_forward=False)
    _look_ahead(inner, blocks, prefetch)
    put_back(weights, data)
    setattr(inner, RUN_DECODER, MethodType(_call_decoder, inner))
    register_fsdp_forward_method(inner, RUN_DECODER)
    setattr(inner, RUN_DECODER, partial(_run_decoder, inner, getattr(inner, RUN_DECODER)))


def _look_ahead(inner: Any, blocks: list[Any], prefetch: int) -> None:
    """Gather blocks before they are called: then what stops a process, as a router does, stops no gathering.

    In the backward pass torch gathers the block before by itself, in the order in which they ran.
    """
    for number, part in enumerate([inner, *blocks]):
        part.set_modules_to_forward_prefetch(blocks[number : number + prefetch])
        if part is not inner and prefetch > 1:
            part.set_modules_to_backward_prefetch(blocks[max(number - 1 - prefetch, 0) : number - 1][::-1])


def shard_rest(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every layer of a method that is part of no model, such as a value head."""
    for part in module.modules():
        if any(not isinstance(p, DTensor) for p in part.parameters(recurse=False)):
            fully_shard(part, mesh=_data(mesh))


def _data(mesh: DeviceMesh) -> DeviceMesh:
    return mesh if mesh["tensor_parallel"].size() > 1 else mesh["data_parallel"]


def give_back_freed(mesh: DeviceMesh) -> None:
    """Let glibc give freed buffers above 128 KiB back at once, on a CPU, where they are the device's memory.

    It keeps those below 32 MiB, in which blocks are gathered, for each of several threads: two processes that share 98M
    parameters held 1 GB of them, more than sharding saves.
    """
    if mesh.device_type == "cpu" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_MMAP_THRESHOLD, 2**17)


@contextmanager
def gathered(model: nn.Module, *, blocks: bool = False) -> Iterator[None]:
    """Gather embeddings and head of a sharded model, and its blocks too if asked, and let go of them in the end.

    For passes without a gradient: no backward pass lets go of them then. Inside another context of the kind nothing is
    done.
    """
    inner: Any = unwrapped(model)
    if not isinstance(inner, FSDPModule) or getattr(inner, IS_GATHERED, False):
        yield
        return
    parts: list[Any] = [inner, *(_blocks(decoder(model)) if blocks else [])]
    setattr(inner, IS_GATHERED, True)
    try:
        for part in parts:
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)
        yield
    finally:
        setattr(inner, IS_GATHERED, False)
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not inner, recurse=False)


def _call_decoder(self: Any, **inputs: Any) -> Any:
    return decoder(self)(**inputs)


def _run_decoder(self: Any, gathering: Any, **inputs: Any) -> Any:
    """Call the decoder with what gathers weights around it, and what stands around that."""
    if not hasattr(self, AROUND_DECODER):
        return gathering(**inputs)
    before, after = getattr(self, AROUND_DECODER)
    before()
    states = gathering(**inputs)
    after()
    return states


def _blocks(body: nn.Module) -> nn.ModuleList:
    """Return the longest list of modules in a decoder: its blocks."""
    lists = [part for part in body.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len)
