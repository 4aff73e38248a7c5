"""What a command and its workers send each other, as bytes that the process between them does not read.

They are pickled, as Ray and `multiprocessing` do with all they carry: only between processes that the command started,
or that its user's own cluster runs, never to or from a file. (Of `multiprocessing`'s pickler without what torch adds
to it: the memory of tensors shared by file descriptors, which only children of one process on one machine can open.)
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any, ClassVar


class _Pickler(ForkingPickler):
    """Writes all that a value holds."""

    _extra_reducers: ClassVar[dict[type, Any]] = {}


def to_bytes(value: object) -> bytes:
    """Return a value as bytes. Raises what pickle raises for one that it cannot write."""
    return bytes(_Pickler.dumps(value))


def from_bytes(data: bytes) -> Any:
    """Return the value of bytes that another process of the command has written."""
    return _Pickler.loads(data)
