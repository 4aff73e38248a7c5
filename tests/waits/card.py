"""A CUDA device that computes on the CPU, and refuses what a GPU refuses: tensors of two devices in one operation.

`fake_device.load` has to be called before torch is imported; inside `card()` whatever is put on `cuda` computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.cuda.amp.common
from torch import Tensor
from torch.utils._foreach_utils import _foreach_supported_types
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from align.scoring import cascade, flash

DEVICE = torch.device("cuda", 0)
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
COPIES = {"_to_copy", "copy_", "copy"}

NOTHING = (
    *("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "manual_seed", "manual_seed_all"),
    *("set_rng_state_all", "_lazy_init", "init"),
)
SAID: dict[str, Any] = {
    **dict.fromkeys(NOTHING),
    **dict.fromkeys(("is_available", "is_bf16_supported"), True),
    **dict.fromkeys(("max_memory_allocated", "memory_allocated", "memory_reserved", "current_device"), 0),
    "device_count": 1,
    "is_initialized": False,
    "get_device_capability": (9, 0),
    "get_device_name": "card",
    "get_device_properties": SimpleNamespace(
        name="card", major=9, minor=0, total_memory=2**36, multi_processor_count=1
    ),
    "get_rng_state_all": [],
    "mem_get_info": (2**36, 2**36),
    "memory_stats": {},
}
"""What torch.cuda says of the card, by function."""


class OnCard(Tensor):
    """Says that it is on the device, and holds its values on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls: Any, held: Tensor) -> OnCard:
        options = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.size(), **options, device=DEVICE)  # type: ignore[attr-defined]
        made.held = held
        return made  # type: ignore[no-any-return]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCard({self.held!r})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: Any, context: Any, size: Any, stride: Any) -> OnCard:
        return OnCard(inner["held"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnCard:
        if id(self) not in memo:
            made = OnCard(self.held.detach().clone()).requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                made._is_param = True
            memo[id(self)] = made
        return memo[id(self)]  # type: ignore[no-any-return]

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return Tensor.data.__get__(self)  # type: ignore[no-any-return, attr-defined]

    @data.setter
    def data(self, values: Tensor) -> None:
        Tensor.data.__set__(self, values)  # type: ignore[attr-defined]
        self.held = values.held if on_card(values) else values  # type: ignore[attr-defined]

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def pin_memory(self, device: Any = None) -> Any:
        raise RuntimeError("cannot pin a tensor of the device")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class _Card(TorchDispatchMode):
    """Catches what has no tensor of the device among its arguments, and is to make one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = kwargs.get("device")
        if _here(args, kwargs) or (named is not None and torch.device(named).type == "cuda"):
            return computed(func, args, kwargs)
        return func(*args, **{name: value for name, value in kwargs.items() if name != "pin_memory"})  # there is none


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """Compute on the CPU what is asked of the device."""
    name, here, named = func.overloadpacket.__name__, _here(args, kwargs), kwargs.get("device")
    if func.namespace == "align":  # of parts, and of numbers that stay on the CPU
        with _Card():
            return getattr(cascade, name)._init_fn(*args, **kwargs)
    if func._can_decompose():  # under inference_mode: what it consists of names its device
        with _Card():
            return func.decompose(*args, **kwargs)
    there = here if named is None else torch.device(named).type == "cuda"
    _check(name, args, kwargs, anything=here or there)
    plain = {**kwargs, "device": torch.device("cpu")} if there and named is not None else kwargs
    bare, plain = tree_map(lambda value: value.held if on_card(value) else value, (args, plain))
    with _disable_current_modes():
        found = _OWN.get(name, func)(*bare, **plain)
    if name == "copy_":
        return args[0]
    if not there:
        return found
    wrapped = tree_map(lambda value: OnCard(value) if isinstance(value, Tensor) else value, found)
    left = any(on_card(leaf) and leaf.device.type == "cpu" for leaf in tree_leaves((args, kwargs)))
    if not here or left or name in _OWN:  # parameters of a module that has left the device have no storage there
        return wrapped
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def on_card(value: Any) -> bool:
    return isinstance(value, OnCard)


def _here(*values: Any) -> bool:
    return any(map(on_card, tree_leaves(values)))


def _check(name: str, args: Any, kwargs: Any, *, anything: bool) -> None:
    """Raise what CUDA raises for two devices: numbers may be on the CPU, and what indexes a tensor of the device."""
    if kwargs.get("generator") is not None and anything:
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({name})")
    if name in COPIES or not anything:
        return
    indexes = name in INDEXED and on_card(args[0])
    given = [
        leaf for leaf in tree_leaves((args[:1] + args[2:] if indexes else args, kwargs)) if isinstance(leaf, Tensor)
    ]
    if _here(given) and any(leaf.dim() and not on_card(leaf) for leaf in given):
        raise RuntimeError(f"Expected all tensors to be on the same device, found cuda:0 and cpu ({name})")


def _forward(q: Tensor, k: Tensor, v: Tensor, *ends: Any, scale: float) -> tuple[Tensor, ...]:
    """Attend as the flash kernel does: in float32, from 16 bits to 16 bits."""
    if q.dtype not in (torch.bfloat16, torch.float16) or q.shape[2] > 256:
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    out, lse = flash.forward(q.float(), k.float(), v.float(), _sequences(*ends), scale)
    unread = torch.empty(2, dtype=torch.uint64)
    return out.to(q.dtype), lse, unread, unread[0], torch.empty(0)


def _backward(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, *rest: Any, scale: float) -> Any:
    lse, *ends = rest
    wide = [part.float() for part in (gradient, q, k, v, out)]
    found = flash.backward(wide[0], tuple(wide[1:4]), flash.Attended(wide[4], lse), _sequences(*ends), scale)
    return tuple(part.to(q.dtype) for part in found)


def _sequences(queries: Tensor, keys: Tensor, longest: int, longest_key: int, _: float, causal: bool, *__: Any) -> Any:
    return flash.Sequences(queries, keys, longest, longest_key, causal)


_OWN = {"_flash_attention_forward": _forward, "_flash_attention_backward": _backward}


@contextmanager
def card() -> Iterator[None]:
    """Make torch and Lightning find one card."""
    _foreach_supported_types.append(OnCard)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) moves what it made by `to`
    with ExitStack() as stack:
        for name, value in SAID.items():
            stack.enter_context(patch.object(torch.cuda, name, lambda *_, value=value, **__: value))
        stack.enter_context(patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False))
        stack.enter_context(patch.object(Tensor, "is_pinned", lambda self, device=None: not on_card(self)))
        stack.enter_context(_Card())
        yield
    torch._C._set_only_lift_cpu_tensors(False)
    _foreach_supported_types.remove(OnCard)
