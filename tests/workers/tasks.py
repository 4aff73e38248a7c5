"""Tasks that workers of the tests do."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable

from align.errors import ModelError

Doubled = tuple[int, int]


def doubling() -> Callable[[int], Doubled]:
    """Return what doubles a number, slowly, tells something, and says which process did."""

    def double(task: int) -> Doubled:
        warnings.warn("the second engine draws", stacklevel=1)
        time.sleep(0.3)
        return 2 * task, os.getpid()

    return double


def dying() -> Callable[[int], int]:
    """Return what ends its process, as the kernel does when memory runs out."""

    def die(_: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    return die


def refusing() -> Callable[[int], int]:
    """Make nothing."""
    raise ModelError("weights are not whole: fetch them again")
