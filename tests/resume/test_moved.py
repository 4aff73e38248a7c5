"""A run goes on from another folder, with other libraries, and after kills in the middle of a save."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from align.files import remove_leftovers
from align.training import checkpoint_contents
from align.training.checkpoint_io import AtomicCheckpointIO, fault_of, newest_whole
from tests.resume.runs import KILLED, Run, checkpoint_of, same
from tests.resume.test_exact import NINE, command


def test_a_run_folder_may_be_moved(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    """Also with a list of best checkpoints, which names files of the old folder."""
    best = ["--trainer.callbacks.monitor", "val/loss", "--trainer.callbacks.save_top_k", "2"]
    arguments = command(pairs_file, model_folder, *best, method="sft")
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    assert cut(("batch_end", 14, NINE)) == KILLED
    moved = Run(tmp_path / "moved", arguments)
    cut.root.rename(moved.root)
    moved.words = [str(moved.root) if word == str(cut.root) else word for word in cut.words]
    moved.journal = cut.journal
    assert moved() == 0, moved.log
    same(whole, moved)
    assert not cut.root.exists()
    names = [{p.name for p in (run.root / "checkpoints").glob("*.ckpt")} for run in (whole, moved)]
    assert names[0] == names[1]  # the worse one of the old folder was taken away


def test_another_version_is_told(tmp_path: Path, model_folder: Path, pairs_file: Path) -> None:
    def older() -> None:
        checkpoint_contents.version = lambda name: "1.0"  # type: ignore[assignment]

    def printed() -> None:
        checkpoint_contents.rank_zero_warn = print  # type: ignore[assignment]

    run = Run(tmp_path / "run", command(pairs_file, model_folder, method="sft"))
    assert run(("batch_end", 5, NINE), prepare=older) == KILLED
    assert run(prepare=printed) == 0
    assert f"torch was 1.0 and is {torch.__version__} now" in run.log


def save_for_ever(folder: Path, values: int) -> None:
    """Save one checkpoint after another, each filled with its number."""
    files = AtomicCheckpointIO()
    number = 0
    while True:
        number += 1
        files.save_checkpoint(checkpoint_of(number, torch.full((values,), float(number))), folder / "last.ckpt")


def kills_in_the_save(folder: Path, within: int, values: int) -> int:
    """Kill a saving process at random moments until so many kills fell into a save; return how many kills it took."""
    remove_leftovers(folder)
    draw, kills, last = random.Random(0), 0, folder / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint_of(0, torch.zeros(values)), last)
    while within:
        process = os.fork()
        if process == 0:
            torch.set_num_threads(1)
            save_for_ever(folder, values)
        time.sleep(draw.uniform(0.1, 0.6))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        kills += 1
        within -= bool(list(folder.glob(".*.part")))
        assert not fault_of(last)
        loaded = AtomicCheckpointIO().load_checkpoint(last)
        assert (loaded["state_dict"]["a"] == loaded["global_step"]).all()
        assert newest_whole(folder) == last
        remove_leftovers(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", "last.json"]
    return kills


@pytest.fixture
def temp_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for checkpoints on another file system than the one for temporary files."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    monkeypatch.setenv("TMPDIR", str(memory))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_kills_in_the_save(temp_elsewhere: Path) -> None:
    assert kills_in_the_save(temp_elsewhere, within=3, values=5_000_000) >= 3


@pytest.mark.slow
def test_many_kills_in_the_save(temp_elsewhere: Path) -> None:
    kills = kills_in_the_save(temp_elsewhere, within=100, values=25_000_000)
    print(f"\n{kills} kills, 100 of them in a save of 100 MB: 0 checkpoints damaged, 0 files left behind")


def test_a_lost_reference_is_not_made_from_weights_that_moved(
    tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    cache = tmp_path / "reference.safetensors"
    more = ("--model.reference.path", str(cache), "--model.backbone.dropout", "false")
    run = Run(tmp_path / "run", command(pairs_file, model_folder, *more, method="dpo_cached"))
    assert run(("batch_end", 5, NINE)) == KILLED
    cache.unlink()
    assert run() == 2
    assert "is missing or incomplete and the policy has moved: start the run anew" in run.log
