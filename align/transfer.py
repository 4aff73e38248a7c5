"""Numbers made on the CPU go to a device without anybody waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Found = TypeVar("Found")


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Return values on a device; a copy to a GPU goes by pinned memory, beside what the GPU computes."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        return pinned(values).to(device, non_blocking=True)
    return values.to(device)


def with_source(values: Tensor, device: torch.device | str) -> Tensor:
    """Return values on a device that remember those they were copied from; neither may be changed in place."""
    moved = to_device(values, device)
    if moved is not values:
        moved.source = values  # type: ignore[attr-defined]
    return moved


def on_cpu(values: Tensor) -> Tensor:
    """Return values on the CPU: those that `with_source` copied, or else a copy, which waits for the device."""
    source: Tensor | None = getattr(values, "source", None)
    return values.cpu() if source is None else source.cpu()


def raw_bytes(values: Tensor) -> memoryview:
    """Return the bytes of values of any shape, also of a single number, without a copy where they are on the CPU."""
    return values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def tensor_on(device: torch.device | str, values: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers as a tensor on a device, without the wait that `torch.tensor(values, device=...)` is."""
    return to_device(torch.tensor(values, dtype=dtype), device)


def pinned(values: Tensor) -> Tensor:
    """Return values of the CPU in memory that a GPU reads by itself."""
    return values if values.is_pinned() else values.pin_memory()


def each(found: Found, kind: type, change: Callable[[Any], Any]) -> Found:
    """Return records, and sequences of records, with what is of a kind in them changed, and all else as it is."""
    given: Any = found
    if isinstance(given, kind):
        return change(given)  # type: ignore[no-any-return]
    if hasattr(given, "_fields"):
        return type(given)(*(each(value, kind, change) for value in given))  # type: ignore[no-any-return]
    if isinstance(given, list | tuple) and given and isinstance(given[0], list | tuple | kind):
        return type(given)([each(value, kind, change) for value in given])  # type: ignore[return-value]
    return found  # numbers and names, of which there may be many
