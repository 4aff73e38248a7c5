"""A file that hashes what is written to it, so that it need not be read back."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any


class HashingWriter(io.BufferedWriter):
    """A new file with the size and hash of what has been written, and the first error in writing."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.fault: OSError | None = None
        """Kept because torch reports only that a position in the file is not the expected one."""
        self.size = 0
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write and hash."""
        try:
            written = super().write(data)
        except OSError as error:
            self.fault = self.fault or error
            raise
        self._hash.update(data)
        self.size += written
        return written

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        self.flush()
        os.fsync(self.fileno())

    @property
    def sha256(self) -> str:
        """Return the hash of what has been written."""
        return self._hash.hexdigest()
