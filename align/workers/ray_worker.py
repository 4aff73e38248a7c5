"""One worker: an actor of Ray Data that makes what it works with when it is first asked, and keeps it."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

from align.errors import ModelError
from align.workers.transport import from_bytes, to_bytes

Work = Callable[[Any], Any]
"""Does a task."""
Make = Callable[[], Work]
"""Makes what does tasks, on the worker: loads a model."""
DECIDING = ("align-lm", "torch", "transformers")
"""Packages whose version may decide a number."""


class Done(NamedTuple):
    """What became of a task."""

    value: Any = None
    error: Exception | None = None
    trace: str = ""
    """Where the error was raised."""
    warned: tuple[str, ...] = ()
    """What the worker would have told on its screen."""


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide what is computed."""
    return {name: version(name) for name in DECIDING}


class RayWorker:
    """Does tasks, each a row of a block; no task raises, so that Ray repeats only those whose worker died."""

    def __init__(self, make: bytes, expected: dict[str, str], threads: int) -> None:
        self._make, self._expected, self._threads = make, expected, threads
        self._work: Work | None = None

    def __call__(self, block: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return what became of the tasks of a block, each beside its place."""
        places, tasks = block["place"], block["task"]
        return {"place": list(places), "done": [self._done(task) for task in tasks]}

    def _done(self, task: bytes) -> bytes:
        with warnings.catch_warnings(record=True) as told:
            try:
                done = Done(self._ready()(from_bytes(task)))
            except Exception as error:
                done = Done(error=error, trace=traceback.format_exc())
        warned = dict.fromkeys(str(one.message) for one in told if issubclass(one.category, UserWarning))
        return packed(done._replace(warned=tuple(warned)))

    def _ready(self) -> Work:
        """Return what does tasks. Raises ModelError where it would compute with other packages than the command."""
        if self._work is None:
            if (found := versions()) != self._expected:
                raise ModelError(f"a Ray worker has {found}, this command {self._expected}: install the same on all")
            make: Make = from_bytes(self._make)
            if "torch" in sys.modules:  # whatever makes a model has imported it
                sys.modules["torch"].set_num_threads(self._threads)
            self._work = make()
        return self._work


def packed(done: Done) -> bytes:
    """Return what became of a task as bytes; an error that cannot be written, or read again, goes as its text."""
    try:
        data = to_bytes(done)
        if done.error is not None:
            from_bytes(data)
    except Exception as error:  # whatever its class, and classes of others that it holds, raise
        return to_bytes(Done(error=RuntimeError(repr(done.error or error)), trace=done.trace, warned=done.warned))
    return data
