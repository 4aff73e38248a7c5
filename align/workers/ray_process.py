"""Starting and ending the process that talks to Ray for a command."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from align.workers.ray_driver import Cluster, end_session

LEAVING = 5.0
"""Seconds for leaving the cluster."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What Ray would send to its makers or draw on the screen; the last keeps a warning of Ray off it."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Has Ray on one machine listen on its loopback address alone, by the name of where that is the default."""


class Driver(NamedTuple):
    """A driver process."""

    process: subprocess.Popen[bytes]
    connection: Connection
    folder: Path
    """Its files: what Ray tells, and where it is started here, its own."""


def started(address: str | None, workers: int, gpus: float, cpus: int) -> Driver:
    """Start a driver, which connects to Ray, or starts it where there is no address."""
    ours, theirs = Pipe()
    folder = Path(tempfile.mkdtemp(prefix="align-ray-"))
    local = {**ALONE, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with (folder / "driver.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "align.workers.ray_driver", str(theirs.fileno())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**os.environ, **QUIET, **({} if address else local)},
        )
    theirs.close()
    ours.send(Cluster(address, workers, gpus, cpus, str(folder)))
    return Driver(process, ours, folder)


def ended(driver: Driver) -> None:
    """End the driver and what Ray started for it."""
    driver.connection.close()
    assert driver.process.stdin is not None
    with suppress(subprocess.TimeoutExpired):
        driver.process.wait(LEAVING)
    driver.process.stdin.close()  # at which it ends whatever it is doing
    with suppress(subprocess.TimeoutExpired):
        driver.process.wait(LEAVING)
    driver.process.kill()
    end_session(driver.process.pid)  # of a driver that was killed Ray would go on for a minute or more
    driver.process.wait()
    shutil.rmtree(driver.folder, ignore_errors=True)
