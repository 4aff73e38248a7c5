"""A reward function in a child process of its own, asked with a time limit."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from align.errors import ConfigError
from align.rewards import function_worker
from align.rewards.function_source import FunctionSource

START_SECONDS = 300.0
"""For importing what defines the function, which may load a model."""
LONGEST = 1e6
"""Eleven days; the system waits for no more than twice as long."""


class FunctionFault(Exception):
    """What went wrong with a call; `kind` is the same for all faults like it."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind + detail)
        self.kind = kind


class Asks(NamedTuple):
    """The parameters of a function."""

    named: tuple[str, ...]
    required: tuple[str, ...]
    others: bool
    """Whether it takes names beside these."""

    def takes(self, name: str) -> bool:
        """Tell whether it takes an argument of this name."""
        return self.others or name in self.named


class FunctionProcess:
    """Calls a function where it can raise, hang, print and die without harm to the run; ended, it is started again.

    It is no sandbox: the function may do what the user may.
    """

    def __init__(self, source: FunctionSource, time_limit: float) -> None:
        """Name function and limit; the process starts with the first question.

        Args:
            source: Where the function is.
            time_limit: Seconds of a call.

        Raises ConfigError for a limit that cannot be waited for.
        """
        if not 0 < time_limit <= LONGEST:
            raise ConfigError(f"time_limit must be positive, at most {LONGEST:,.0f} s, got {time_limit}")
        self.source, self.time_limit, self.hash = source, time_limit, source.hash
        self._child: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[[subprocess.Popen[bytes]], FunctionProcess] | None = None
        self._rest = b""
        self._asks: Asks | None = None

    def asks(self) -> Asks:
        """Return what the function takes. Raises ConfigError where it cannot be imported."""
        if self._asks is None or self._child is None:
            self._asks = self._start()
        return self._asks

    def call(self, arguments: Mapping[str, Any]) -> list[float | str | None]:
        """Return what the function returns: numbers, None, and words for numbers that are not finite.

        Raises FunctionFault where it raises, returns something else, does not return in time, or ends its process.
        """
        self.asks()
        reply = self._ask(arguments, self.time_limit)
        if "fault" in reply:
            raise _fault_of(reply)
        return list(reply["values"])

    def close(self) -> None:
        """End the process and what it started."""
        if self._finalizer is not None:
            self._finalizer()
        self._child, self._finalizer, self._rest = None, None, b""

    def _start(self) -> Asks:
        if self.source.hash != self.hash:
            raise ConfigError(
                f"function {self.source.told!r}: {self.source.path}, or a file it imports, changed while the run was "
                "going: put it back, or begin a new run"
            )
        words = [sys.executable, "-P", str(Path(function_worker.__file__))]
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self._finalizer = weakref.finalize(self, _end, self._child)
        named = {"module": self.source.module, "file": str(self.source.path), "name": self.source.name}
        try:
            reply = self._ask({"path": sys.path, "folder": str(self.source.folder), **named}, START_SECONDS)
        except FunctionFault as fault:
            raise ConfigError(f"function {self.source.told!r}: {self.source.path}, imported, {fault}") from fault
        if "fault" in reply:
            self.close()
            raise ConfigError(f"function {self.source.told!r}: {self.source.path}, imported, {_fault_of(reply)}")
        found = reply["asks"]
        return Asks(tuple(found["named"]), tuple(found["required"]), found["others"])

    def _ask(self, asked: Mapping[str, Any], limit: float) -> dict[str, Any]:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(asked, allow_nan=False).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return dict(json.loads(self._line(time.monotonic() + limit, limit)))

    def _line(self, end: float, limit: float) -> bytes:
        """Return the next line of the process, which is ended where there is none in time."""
        assert self._child is not None
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(end - time.monotonic(), 0)):
                    self.close()
                    raise FunctionFault(f"did not return within {limit:g} s")
                piece = os.read(self._child.stdout.fileno(), 2**16)
                if not piece:
                    raise self._ended()
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _ended(self) -> FunctionFault:
        """Return how the process ended by itself."""
        child, end = self._child, time.monotonic() + 5
        assert child is not None
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT  # its number stays its own until its group is ended
        while os.waitid(os.P_PID, child.pid, how) is None and time.monotonic() < end:
            time.sleep(0.01)
        self.close()
        code = child.returncode
        told = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return FunctionFault(f"ended its process ({told})")


def _fault_of(reply: Mapping[str, str]) -> FunctionFault:
    place = f" ({reply['place']})" if reply["place"] else ""
    return FunctionFault(f"raised {reply['fault']}", f": {reply['detail']}{place}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process and its group, which is its own until it has been waited for here."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout):
        with suppress(BrokenPipeError):
            if stream is not None:
                stream.close()
