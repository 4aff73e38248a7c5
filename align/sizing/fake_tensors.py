"""A model's tensors replaced by such as have shapes and no values, and the bytes that a pass over them would take."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from align.scoring.packed_names import PLAIN_NAMES
from align.scoring.packed_row import carried
from align.scoring.segment_attention import segment_attention

_HALF = (torch.bfloat16, torch.float16)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that come and go, those it was told of left out."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known, self._live = known, dict[int, int]()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it made."""
        made = func(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, Tensor):
                self._see(value)
        return made

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known or key in self._live:
            return
        self._live[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._live.pop(key, 0)


def storages(model: nn.Module) -> set[int]:
    """Return the storages of parameters, their gradients, and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return {tensor.untyped_storage()._cdata for tensor in [*tensors, *gradients]}


def make_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Replace what a model holds by fake tensors of the CPU, shared where it was; what is trained gets a gradient."""
    known: dict[int, nn.Parameter] = {}
    for part in model.modules():
        for name, own in part._parameters.items():
            if own is not None:
                part._parameters[name] = known[id(own)] if id(own) in known else _fake(own, mode)
                known[id(own)] = part._parameters[name]  # type: ignore[assignment]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = _fake(buffer, mode).data


def _fake(own: Tensor, mode: FakeTensorMode) -> nn.Parameter:
    with mode:
        made = nn.Parameter(torch.empty(own.shape, dtype=own.dtype, device="cpu"), requires_grad=own.requires_grad)
        if own.requires_grad:
            made.grad = torch.empty(own.shape, dtype=own.dtype, device="cpu")
        return made


@contextmanager
def attention_of_gpus() -> Iterator[None]:
    """Let attention on the CPU keep what the kernels of a GPU do: queries, keys, values, outputs, log-sum-exps."""
    with (
        patch.dict(ALL_ATTENTION_FUNCTIONS._global_mapping, dict.fromkeys(PLAIN_NAMES, _attention)),
        patch.object(F, "scaled_dot_product_attention", _kernel),
    ):
        yield


@contextmanager
def grouped_products() -> Iterator[None]:
    """Let products of experts have shapes in float32 too: torch knows them without values in bfloat16 only."""
    with patch.object(F, "grouped_mm", _grouped):
        yield


def _grouped(rows: Tensor, weight: Tensor, *, offs: Tensor) -> Tensor:
    experts: Tensor = torch.ops.transformers.grouped_mm_fallback(rows, weight, offs)
    return experts


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    load = carried(attention_mask)
    if load is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    load.asked += 1
    query, key, value = _cast(query, key, value)
    if query.dtype not in _HALF or max(query.shape[-1], value.shape[-1]) > 256:
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        found = segment_attention(query, key, value, load.bounds, scale=scale, dropout_p=0.0)
        return found.transpose(1, 2).contiguous(), None
    rows = [values.transpose(1, 2) for values in (query, key, value)]
    output = _Kernel.apply(*rows)  # type: ignore[no-untyped-call]
    return output, None


def _kernel(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    output: Tensor = _Kernel.apply(*_cast(query, key, value))  # type: ignore[no-untyped-call]
    return output


def _cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors)


@torch.library.custom_op("align::attention", mutates_args=())  # an operator, so that it can be chosen to be kept
def attention_kernel(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return room for what attention gives, and for its log-sum-exps."""
    output = query.new_empty(*query.shape[:-1], value.shape[-1])
    return output, query.new_empty(query.shape[:3], dtype=torch.float32)


attention_kernel.register_fake(attention_kernel._init_fn)


class _Kernel(torch.autograd.Function):
    """Keeps what flash attention does, and computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output, sums = attention_kernel(query, key, value)
        ctx.save_for_backward(query, key, value, output, sums)
        return output  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(values) for values in ctx.saved_tensors[:3])
