"""Surroundings that fail: folders, disks, limits, locales, variables, processes."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.distributed import DistNetworkError

from align.callbacks.checkpoint import Checkpoint
from align.cli.faults import explain_fault
from align.cli.main import main
from align.errors import Stopped
from tests.resume.runs import Run
from tests.resume.test_exact import command

NOWHERE = "/proc/nowhere"
"""A folder that even root cannot make."""


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("extra", "line", "code"),
    [
        (["--trainer.default_root_dir", NOWHERE], f"--trainer.default_root_dir {NOWHERE}: cannot be made", 2),
        (["--trainer.default_root_dir", "file"], "file: cannot be made (File exists)", 2),
        (["--trainer.default_root_dir", "link"], "link: cannot be made (File exists)", 2),
        (["--trainer.default_root_dir", "x" * 300], "cannot be made (File name too long)", 2),
        (["--data.encoding.cache_dir", NOWHERE], f"data.encoding.cache_dir {NOWHERE}: cannot be written and locked", 2),
        (["--data.encoding.cache_dir", "file"], "data.encoding.cache_dir file: cannot be written and locked", 2),
        (
            ["--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint", "--trainer.callbacks.dirpath", NOWHERE],
            "not written: No such file or directory: choose a folder that can be written",
            3,
        ),
        (
            ["--trainer.callbacks+", "align.callbacks.hf_export.HFExport", "--trainer.callbacks.folder", NOWHERE],
            f"{NOWHERE}: No such file or directory: check the path",
            3,
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_folders_that_cannot_be_written(told, fit_words: list[str], extra: list[str], line: str, code: int) -> None:
    Path("file").touch()
    Path("link").symlink_to("nothing")
    assert line in told(*fit_words, *extra, code=code)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["LOCAL_RANK", "WORLD_SIZE", "SLURM_NTASKS"])
def test_an_empty_variable_of_the_launcher(
    told, fit_words: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "")
    assert f"environment variable {name} is '', expected a number: unset it" in told(*fit_words)


@pytest.mark.bad_input
def test_bytes_that_the_locale_cannot_read(told) -> None:
    assert "argument 2 of the command line is not readable as" in told("generate", "--prompt", "h\udce4")


@pytest.mark.bad_input
def test_a_reader_that_goes_away() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "align", "--help"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert done.returncode == 3
    assert done.stderr.decode().startswith("align: the reader of the output has gone away")
    assert len(done.stderr.decode().splitlines()) == 1


def test_a_closed_output() -> None:
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m align --version >&- 2>&-"], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "a file of the run: No space left on device: make room", 3),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied: check the path", 3),
        (OSError(errno.EMFILE, "Too many open files", "x"), "raise the limit on open files (`ulimit -n`)", 3),
        (DistNetworkError("port: 29500 address already in use"), "unset MASTER_PORT, or choose a free one", 3),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory (CUDA out of memory): lower data.batching", 3),
    ],
)
def test_lines(error: Exception, line: str, code: int) -> None:
    found = explain_fault(error)
    assert found is not None
    assert line in found[0]
    assert found[1] == code


def test_what_a_lost_loader_process_broke_is_not_told_in_its_place() -> None:
    """Torch raises in a signal handler: in the middle of any line."""
    try:
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        finally:
            {}.pop("a thread that was being started")
    except KeyError as error:
        found = explain_fault(error)
    assert found is not None
    assert "a loader process ended, expected it to outlive the run (DataLoader worker (pid 7)" in found[0]


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("shape mismatch"), KeyError("x")])
def test_what_may_be_our_own_mistake_keeps_its_traceback(error: Exception) -> None:
    assert explain_fault(error) is None


@pytest.fixture
def run(tmp_path: Path, model_folder: Path, pairs_file: Path) -> Run:
    return Run(tmp_path / "run", command(pairs_file, model_folder, "--trainer.max_epochs", "1", method="sft"))


def last_line(run: Run) -> str:
    assert "Traceback" not in run.log
    return run.log[run.log.rindex("align fit:") :].splitlines()[0]


@pytest.mark.bad_input
def test_a_disk_that_fills_up_during_the_save(run: Run) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    assert run(prepare=limit) == 3
    assert "last.ckpt not written: File too large (free" in last_line(run)
    assert not list((run.root / "checkpoints").iterdir())


def test_few_open_files_are_enough_for_workers(run: Run) -> None:
    """A worker that sent tensors would need one for each, and hang without a word."""

    def few() -> None:
        inherited = max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (inherited + 28, inherited + 28))

    run.words += ["--data.batching.num_workers", "2"]
    assert run(prepare=few) == 0, run.log


@pytest.mark.bad_input
def test_workers_that_are_killed(run: Run) -> None:
    """Again and again, for one that has handed over all its batches is not missed."""

    def kill() -> None:
        while True:
            for worker in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            time.sleep(0.01)

    run.words += ["--data.batching.num_workers", "2"]
    assert run(prepare=lambda: threading.Thread(target=kill, daemon=True).start()) == 3
    assert "a loader process ended" in last_line(run)
    assert "lower data.batching.num_workers" in last_line(run)


def test_a_second_signal_ends_the_run_at_once(run: Run) -> None:
    """Here both arrive in the middle of the second save, the first of which left a whole file."""

    def two_signals() -> None:
        save, calls = torch.save, []

        def interrupted(content: object, file: object) -> None:
            calls.append(file)
            save(content, file)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)

        torch.save = interrupted

    assert run(prepare=two_signals) == 128 + signal.SIGTERM
    assert "stopped at once by a second signal; the last checkpoint is whole" in last_line(run)
    assert run() == 0, run.log
    assert not list((run.root / "checkpoints").glob(".*.part"))


def test_what_lightning_ends_at_a_signal_has_not_succeeded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It raises a SystemExit without a code, which is that of success: `init world` and `predict` did so, unsaid."""

    def ended(words: list[str]) -> int:
        raise SIGTERMException

    monkeypatch.setattr("align.cli.main.run_verb", ended)
    assert main(["init", "world"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "align init world: stopped by SIGTERM before it was done\n"


def test_the_second_signal_names_itself() -> None:
    saver = Checkpoint()
    saver._stop(signal.SIGINT, None)
    with pytest.raises(Stopped) as stopped:
        saver._stop(signal.SIGTERM, None)
    assert stopped.value.exit_code == 143
