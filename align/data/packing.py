"""Files that are packed, whatever their name: gzip, bzip2, xz and Zstandard, unpacked as they are read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa

BEGINS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""What a packed file begins with."""
DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)
"""What is raised for a packed file that is damaged, beside OSError."""


def packing(path: Path) -> str:
    """Return how a file is packed, nothing for one that is not."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((name for begin, name in BEGINS.items() if head.startswith(begin)), "")


def opened(path: Path) -> Any:
    """Return a file to read bytes from, unpacked where it is packed."""
    match packing(path):
        case "gzip":
            return gzip.open(path)
        case "bzip2":
            return bz2.open(path)
        case "xz":
            return lzma.open(path)
        case "zstd":
            return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")
