"""Weights that stay in their files until a process cuts its part out of them: loading a model without owning it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils import swap_tensors
from torch.utils._pytree import tree_map_only
from transformers import core_model_loading

aten = torch.ops.aten
READ_ONLY = {aten.t.default, aten.transpose.int, aten.permute.default, aten.expand.default, aten.view.dtype}
"""Views that nobody writes through; any other may be written to, as in `table[3] = row`."""


class FileWeight(Tensor):
    """A weight of a safetensors file, in the dtype it was asked in: what reads it sees its values, cast then and there.

    It holds a memory map, so that what nobody reads takes no memory, and copies of a model share it. What writes to it
    gives it memory of its own. A dtype of the file that is not the asked one is cast at every reading.
    """

    held: Tensor
    own: bool

    @staticmethod
    def __new__(cls, held: Tensor, dtype: torch.dtype) -> Self:
        """Wrap a tensor that lies in a file."""
        made: Self = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=dtype, device=held.device
        )
        made.held, made.own = held, False
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Return what it is, without its values."""
        return f"FileWeight({list(self.shape)}, {self.held.dtype} as {self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Return a second reader of the same file, or a copy of what was written."""
        if id(self) not in memo:
            held = self.held.clone() if self.own else self.held
            copied: Any = FileWeight(held, self.dtype)
            copied.own = self.own
            if isinstance(self, nn.Parameter):
                copied = nn.Parameter(copied, requires_grad=self.requires_grad)
            memo[id(self)] = copied
        found: Tensor = memo[id(self)]
        return found

    @property
    def data(self) -> Tensor:
        """Return the same without its part in the graph."""
        return self.detach()

    @data.setter
    def data(self, values: Tensor) -> None:
        """Become the tensor that is given."""
        new = nn.Parameter(values, requires_grad=self.requires_grad) if isinstance(self, nn.Parameter) else values
        swap_tensors(self, new)  # type: ignore[no-untyped-call]

    def cut(self, where: Sequence[slice]) -> Tensor:
        """Return a part of the values in memory of its own; nothing else of the file is read."""
        return self.held[tuple(where)].to(self.dtype, copy=True)

    def written(self) -> Tensor:
        """Return the values in memory that belongs to this weight, for somebody who writes to them."""
        if not self.own:
            self.held, self.own = self.held.to(self.dtype, copy=True), True
        return self.held

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Give an operation the values; copies that lose nothing, and detached ones, stay in the file."""
        kwargs = kwargs or {}
        if func in (aten.detach.default, aten.alias.default):
            return cls._same(args[0])
        if func is aten._to_copy.default and kwargs.keys() == {"dtype"} and args[0]._exact_as(kwargs["dtype"]):
            return cls(args[0].held, kwargs["dtype"])
        writes = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
        views = func not in READ_ONLY and any(a.alias_info is not None for a in func._schema.arguments)
        read = cls.written if writes or views else cls._values
        args, kwargs = tree_map_only(FileWeight, read, (args, kwargs))
        return func(*args, **kwargs)

    @classmethod
    def _same(cls, weight: FileWeight) -> FileWeight:
        found = cls(weight.held, weight.dtype)
        found.own = weight.own
        return found

    def _exact_as(self, dtype: torch.dtype) -> bool:
        """Tell whether the file's values, cast to this dtype, are those of this weight."""
        steps = ((self.held.dtype, self.dtype), (self.dtype, dtype))
        widens = [torch.promote_types(*step) == step[1] for step in steps]
        return not self.own and widens[0] and (widens[1] or dtype == self.held.dtype)

    def was_written_in(self, dtype: torch.dtype) -> bool:
        """Tell whether the values are those of a file of this dtype, which has them without loss."""
        return self.held.dtype == dtype and self._exact_as(dtype)

    def _values(self) -> Tensor:
        return self.held.to(self.dtype)


@contextmanager
def weights_in_files(wanted: bool = True) -> Iterator[None]:
    """Let every model that transformers loads inside keep its weights in their files until something writes to them.

    Nothing is done where it is not wanted, as for weights that are packed into few bits while they are read.
    Weights that transformers puts together of several (experts of a mixture in one tensor) are in memory all the same.
    """
    read_whole = core_model_loading._materialize_copy

    def read(tensor: Any, device: Any = None, dtype: torch.dtype | None = None) -> Tensor:
        found: Tensor = tensor[...]
        if torch.device(device or "cpu").type != "cpu":
            return read_whole(tensor, device, dtype)  # type: ignore[no-any-return]
        return FileWeight(found, dtype or found.dtype)

    if wanted:
        core_model_loading._materialize_copy = read
    try:
        yield
    finally:
        core_model_loading._materialize_copy = read_whole
