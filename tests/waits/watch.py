"""Counts what a step asks of a fake CUDA device: waits of the CPU for it, and kernels beside the model's own."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker

ROOT = Path(__file__).parents[2]
OWN = tuple(f"{ROOT / name}{os.sep}" for name in ("align", "callbacks"))
NO_KERNEL = {
    "_unsafe_view",
    "detach",
    "lift_fresh",
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "_reshape_alias",
}
READS = {
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_consecutive",
}
MAKERS = ((torch, "tensor"), (torch, "as_tensor"), (torch.Tensor, "new_tensor"))


class Watch(TorchDispatchMode):
    """Everything that is dispatched inside it, by phase and line of our code."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.waits: Counter[tuple[str, str, str]] = Counter()
        self.kernels: Counter[tuple[str, str, str]] = Counter()
        self._modules = ModuleTracker()

    def wait(self, kind: str) -> None:
        self.waits[kind, line(), self.phase] += 1

    def __enter__(self) -> Watch:
        self._modules.__enter__()
        return super().__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._modules.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if not any(map(on_device, given)) and not kwargs.get("device"):
            return func(*args, **kwargs)
        if name in {"_local_scalar_dense", "equal"}:
            self.wait("value read")
            return True if name == "equal" else False if args[0].dtype == torch.bool else 1
        if kind := self._waits(name, args, kwargs, given):
            self.wait(kind)
        out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        if name == "_to_copy" and on_device(args[0]) and not on_device(out):
            return read_values(out)
        if any(map(on_device, made)) and not func.is_view and name not in NO_KERNEL and not self._in_model():
            self.kernels[name, line(), self.phase] += 1
        return out

    def _in_model(self) -> bool:
        return any(name != "Global" for name in self._modules.parents)

    @staticmethod
    def _waits(name: str, args: Any, kwargs: Any, given: list[torch.Tensor]) -> str:
        if name in READS:
            return name
        if name == "segment_reduce" and not kwargs.get("unsafe"):
            return "segment_reduce looks at its lengths"
        if name == "repeat_interleave" and kwargs.get("output_size") is None:
            return "repeat_interleave without its output's size"
        if name in {"index", "index_put", "index_put_"} and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        ):
            return "boolean index"
        return Watch._copies(name, args, kwargs)

    @staticmethod
    def _copies(name: str, args: Any, kwargs: Any) -> str:
        if name in {"_to_copy", "copy_"}:
            source, target = (args[1], args[0].device) if name == "copy_" else (args[0], kwargs.get("device"))
            if on_device(source) and target is not None and torch.device(target).type == "cpu":
                return "copy to the CPU"
            if not on_device(source) and target is not None and not _pinned(kwargs, args):
                return "blocking copy to the device"
        return ""


def _pinned(kwargs: Any, args: Any) -> bool:
    return bool(kwargs.get("non_blocking") or args[2:3] == (True,))


def on_device(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "cuda"


def read_values(shape_of: torch.Tensor) -> torch.Tensor:
    """Return zeros that can be read, in place of the values there are none of."""
    with _disable_current_modes():
        return torch.ones(shape_of.shape, dtype=shape_of.dtype)


def line() -> str:
    """Return the line of our code that runs; a traceback of the whole stack would read the files of all of it."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(OWN):
            return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


@contextmanager
def python_data_watched(watch: Watch) -> Iterator[None]:
    """Count tensors that are made on the device from Python numbers, and lists as indices: each is a blocking copy."""
    made = {(owner, name): getattr(owner, name) for owner, name in MAKERS}
    take, pinned, numpy = torch.Tensor.__getitem__, torch.Tensor.is_pinned, torch.Tensor.numpy

    def counting(name: str, function: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            data = args[1] if name == "new_tensor" else args[0]
            device = kwargs.get("device") or (args[0].device if name == "new_tensor" else None)
            if device is not None and torch.device(device).type == "cuda" and not isinstance(data, torch.Tensor):
                watch.wait(f"{name} of Python numbers")
            return function(*args, **kwargs)

        return make

    def item(self: torch.Tensor, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if on_device(self) and any(isinstance(part, list) for part in parts):
            watch.wait("list as an index")
        return take(self, index)

    def values(self: torch.Tensor) -> Any:
        if on_device(self):
            watch.wait("values read")
        return read_values(self).tolist()

    def array(self: torch.Tensor) -> Any:
        with _disable_current_modes():  # what is on the CPU has values
            return numpy(self)

    for (owner, name), function in made.items():
        setattr(owner, name, counting(name, function))
    torch.Tensor.numpy = array  # type: ignore[method-assign,assignment]
    torch.Tensor.__getitem__, torch.Tensor.is_pinned = item, lambda self: True  # type: ignore[method-assign,assignment]
    FakeTensor.tolist = values  # type: ignore[method-assign]  # its own reads them one by one
    try:
        yield
    finally:
        for (owner, name), function in made.items():
            setattr(owner, name, function)
        torch.Tensor.__getitem__, torch.Tensor.is_pinned, torch.Tensor.numpy = take, pinned, numpy  # type: ignore[method-assign]
