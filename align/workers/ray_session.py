"""Tasks for workers on a Ray cluster, from the command's side: a driver process of its own, watched while it works."""

from __future__ import annotations

import importlib.util
import re
import socket
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from align.errors import ConfigError, Paused, shorten
from align.workers.ray_driver import Tasks
from align.workers.ray_process import Driver, ended, started
from align.workers.ray_settings import RayWorkers
from align.workers.ray_worker import Done, Make, versions
from align.workers.transport import from_bytes, to_bytes

CONNECTING = 180.0
"""Seconds in which Ray has to be there."""
REACHING = 10.0
"""Seconds in which its head has to take a connection."""


class WorkerTrace(Exception):
    """Where a worker raised an error, as the cause of that error."""


class RaySession:
    """Has workers do tasks; the cluster is looked for at the first, and left when the session is closed or dropped."""

    def __init__(self, settings: RayWorkers, setting: str) -> None:
        """Name the cluster.

        Args:
            settings: Which, and how many workers.
            setting: What the settings are called where they are given, for messages.
        """
        self.settings, self.setting = settings, setting
        self._driver: Driver | None = None
        self._finalizer: Any = None
        self._told: set[str] = set()

    def check(self) -> None:
        """Connect to the cluster, if that was not done yet.

        Raises ConfigError where Ray is not installed or the cluster has no room for the workers, Paused where it
        cannot be reached.
        """
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                f"{self.setting} needs the package ray: pip install 'align-lm[ray]', or leave {self.setting} out"
            )
        if self._driver is not None and self._driver.process.poll() is not None:
            self.close()  # it was lost between two runs, and may be there again
        if self._driver is None:
            self._reach()
            self._check_room(self._answer(self._start(), CONNECTING, f"did not answer within {CONNECTING:g} s"))

    def run(self, make: Make, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield the place and result of every task, in the order they are done.

        Args:
            make: Makes, on a worker, what does tasks; as pickle writes it.
            tasks: What is to be done, each by one worker; as pickle writes it.

        Raises what a worker raised; Paused where workers die again and again, or none gets anything done.
        """
        if not tasks:
            return
        self.check()
        driver, left = self._driver, len(tasks)
        assert driver is not None
        try:
            driver.connection.send(Tasks(to_bytes(make), versions(), [to_bytes(task) for task in tasks]))
            while left:
                found = self._answer(driver, self.settings.patience, self._idle)
                if isinstance(found, str):
                    raise self._paused(f"gave up after {len(tasks) - left} of {len(tasks)} batches ({_reason(found)})")
                left -= 1
                if not left:  # who takes the last result may not come back
                    self._answer(driver, self.settings.patience, self._idle)
                yield found[0], self._value(from_bytes(found[1]))
        finally:
            if left:  # the driver would go on with what nobody reads
                self.close()

    def close(self) -> None:
        """Leave the cluster, and end it where it was started here."""
        if self._finalizer is not None:
            self._finalizer()
        self._driver = self._finalizer = None

    def _value(self, done: Done) -> Any:
        for line in done.warned:
            if line not in self._told:
                self._told.add(line)
                warnings.warn(line, stacklevel=4)
        if done.error is not None:
            raise done.error from WorkerTrace(done.trace)
        return done.value

    def _reach(self) -> None:
        """Raise Paused where the cluster's head takes no connection, for which Ray itself would wait long."""
        if self.settings.address in (None, "auto"):
            return
        host, _, port = str(self.settings.address).partition(":")
        try:
            socket.create_connection((host, int(port)), REACHING).close()
        except (OSError, OverflowError) as error:
            raise self._paused(f"cannot be reached ({shorten(error, 120)})") from error

    def _start(self) -> Driver:
        settings = self.settings
        self._driver = started(settings.address, settings.workers, settings.gpus, settings.cpus)
        self._finalizer = weakref.finalize(self, ended, self._driver)
        return self._driver

    @property
    def _idle(self) -> str:
        return (
            f"had no worker finish a batch for {self.settings.patience:g} s: all dead, still loading, or without the "
            f"{self.settings.each} each of them needs (raise {self.setting}.patience where batches take longer)"
        )

    def _answer(self, driver: Driver, seconds: float, silent: str) -> Any:
        """Return the driver's next message. Raises Paused where it says nothing for so long, or has ended."""
        try:
            if driver.connection.poll(seconds):
                return driver.connection.recv()
        except (EOFError, OSError):
            told = _last_line(driver.folder / "driver.log")
            self.close()
            raise self._paused(f"was lost ({told})") from None
        self.close()
        raise self._paused(silent)

    def _check_room(self, room: int | str) -> None:
        settings = self.settings
        if isinstance(room, str):
            self.close()
            if "AF_UNIX" in room:
                raise ConfigError(f"TMPDIR: {tempfile.gettempdir()} is too long a path for Ray's sockets: take another")
            raise self._paused(f"cannot be joined ({_reason(room)})")
        if room < settings.workers:
            self.close()
            raise ConfigError(
                f"{self.setting}.workers: {settings.workers} with {settings.each} each, {settings.place} has room for "
                f"{room}: lower {self.setting}.workers or {self.setting}.gpus (0: on CPUs), or add machines"
            )

    def _paused(self, what: str) -> Paused:
        return Paused(f"{self.setting}: {self.settings.place} {what}: look after it, then give the same command again")


def _reason(told: str) -> str:
    """Return the first line of what Ray says of a fault, without the colours of its screen."""
    return shorten(re.sub(r"\x1b\[[0-9;]*m", "", told).partition("\n")[0], 300)


def _last_line(log: Path) -> str:
    """Return the last line that Ray told before its driver ended."""
    with suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return _reason(lines[-1])
    return "its driver ended without a word"
