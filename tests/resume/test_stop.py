"""Signals, full disks, damaged checkpoints, other settings, locked folders, losses that are no numbers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from align.errors import ResumeError, StoreError
from align.training.checkpoint_io import AtomicCheckpointIO, newest_whole, remove_leftovers
from tests.resume.runs import KILLED, Run, checkpoint_of, same
from tests.resume.test_exact import NINE, command


@pytest.fixture
def run(tmp_path: Path, model_folder: Path, pairs_file: Path) -> Run:
    return Run(tmp_path / "run", command(pairs_file, model_folder, method="sft"))


def last_line(run: Run) -> str:
    return run.log[run.log.rindex("align fit:") :].splitlines()[0]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        *(pytest.param(*more, marks=pytest.mark.slow) for more in ((signal.SIGINT, 130), (signal.SIGHUP, 129))),
    ],
    ids=str,
)
def test_a_signal_finishes_the_step_and_saves(
    number: signal.Signals, code: int, tmp_path: Path, model_folder: Path, pairs_file: Path
) -> None:
    more = ("--data.batching.groups", "8", "--data.batching.tokens", "300")
    arguments = command(pairs_file, model_folder, *more, method="sft")
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0
    assert cut(("batch_start", 2, int(number))) == code, cut.log
    assert f"stopped at step 2 by {number.name}: give the same command again" in last_line(cut)
    assert json.loads((cut.root / "checkpoints" / "last.json").read_text())["step"] == 2
    assert cut() == 0
    same(whole, cut)


def test_a_damaged_checkpoint_is_named_with_the_newest_whole_one(run: Run) -> None:
    assert run(("batch_end", 14, NINE)) == KILLED
    last = run.root / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-2000])
    assert run() == 2
    assert "last.ckpt is damaged" in last_line(run)
    assert "step=9.ckpt" in last_line(run)  # the one of the first epoch's end


def test_other_settings_are_refused_by_name(run: Run) -> None:
    assert run(("batch_end", 5, NINE)) == KILLED
    run.words += ["--model.optimizer.learning_rate", "2e-3"]
    assert run() == 2
    assert "learning_rate was 0.001 and is 0.002 now" in last_line(run)


def test_a_finished_run_is_not_begun_again(run: Run) -> None:
    assert run() == 0
    assert run() == 2
    assert "holds a finished run" in last_line(run)


def test_a_folder_in_use_is_refused(run: Run, tmp_path: Path) -> None:
    from align.cli.run_folder import claim, release

    claim(run.root)
    try:
        assert run() == 3
        assert "is in use by process" in last_line(run)
    finally:
        release()


def test_a_full_disk_leaves_the_last_checkpoint_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(("batch_end", 5, NINE)) == KILLED
    last = run.root / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    usage = namedtuple("usage", "total used free")

    def fill() -> None:
        shutil.disk_usage = lambda _: usage(1, 1, 1000)  # type: ignore[assignment]

    assert run(prepare=fill) == 3
    assert "not written: no space left" in last_line(run)
    assert last.read_bytes() == before
    assert not list(last.parent.glob(".*.part"))


def test_a_write_that_fails_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    files.save_checkpoint({"a": torch.ones(3)}, path)
    before = path.read_bytes()

    def broken(checkpoint: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(StoreError, match="No space left"):
        files.save_checkpoint({"a": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.glob("*last*")) == ["last.ckpt", "last.json"]
    assert not list(tmp_path.glob(".*.part"))


class TestCheckpointFiles:
    @pytest.mark.parametrize(
        "content", [b"", b"version https://git-lfs.github.com/spec/v1", b"<html></html>", b"PK\x03\x04 torn"]
    )
    def test_what_is_no_checkpoint(self, content: bytes, tmp_path: Path) -> None:
        files = AtomicCheckpointIO()
        files.save_checkpoint({"a": torch.ones(3)}, tmp_path / "step-1.ckpt")
        (tmp_path / "last.ckpt").write_bytes(content)
        with pytest.raises(ResumeError, match=r"last.ckpt is damaged .*newest whole one is .*step-1.ckpt"):
            files.load_checkpoint(tmp_path / "last.ckpt")

    def test_a_changed_byte_is_found(self, tmp_path: Path) -> None:
        files, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
        files.save_checkpoint({"a": torch.ones(1000)}, path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(ResumeError, match="another hash"):
            files.load_checkpoint(path)

    def test_a_kill_between_the_two_renames_is_no_damage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when the clock is set back in between: no date is compared."""
        files, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
        files.save_checkpoint(checkpoint_of(1, torch.ones(3)), path)
        replace = os.replace

        def killed(source: Path, target: Path) -> None:
            if target == path:
                raise KeyboardInterrupt
            replace(source, target)

        for _ in range(2):  # a second process finds the file of the first
            monkeypatch.setattr(os, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                AtomicCheckpointIO().save_checkpoint(checkpoint_of(2, torch.zeros(4)), path)
            monkeypatch.undo()
            os.utime(path, ns=(0, 0))
            assert files.load_checkpoint(path)["state_dict"]["a"].shape == (3,)
            assert newest_whole(tmp_path) == path

    def test_the_note_holds_the_hash_of_the_file(self, tmp_path: Path) -> None:
        AtomicCheckpointIO().save_checkpoint({"a": torch.rand(300_000), "b": "text"}, tmp_path / "last.ckpt")
        content = (tmp_path / "last.ckpt").read_bytes()
        note = json.loads((tmp_path / "last.json").read_text())
        assert note["sha256"] == hashlib.sha256(content).hexdigest()
        assert note["bytes"] == len(content)

    def test_the_newest_is_the_one_with_the_most_steps(self, tmp_path: Path) -> None:
        for step in (20, 10):  # the clock was set back
            AtomicCheckpointIO().save_checkpoint({"global_step": step}, tmp_path / f"{step}.ckpt")
        assert newest_whole(tmp_path) == tmp_path / "20.ckpt"

    @pytest.mark.injection
    def test_code_in_a_checkpoint_is_not_run(self, tmp_path: Path) -> None:
        class Hostile:
            def __reduce__(self) -> tuple:
                return (Path.touch, (tmp_path / "ran",))

        torch.save({"a": Hostile()}, tmp_path / "last.ckpt")
        with pytest.raises(ResumeError):
            AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt", weights_only=False)
        assert not (tmp_path / "ran").exists()

    def test_leftovers_of_dead_processes_go(self, tmp_path: Path) -> None:
        dead, alive = tmp_path / ".last.ckpt.4194304.part", tmp_path / ".last.ckpt.1.part"
        dead.touch()
        alive.touch()
        remove_leftovers(tmp_path)
        assert not dead.exists()
        assert alive.exists()


def test_a_gradient_that_is_no_number_stops_before_the_step(run: Run) -> None:
    def poison() -> None:
        from align.modules.sft import SFTModule

        original = SFTModule.loss
        calls = []

        def loss(self, batch, totals):  # type: ignore[no-untyped-def]
            calls.append(batch.ids)
            value = original(self, batch, totals)
            return value * float("nan") if len(calls) == 6 else value  # the first is the sanity check's

        SFTModule.loss = loss  # type: ignore[method-assign]

    assert run(prepare=poison) == 3
    seen = [json.loads(line) for line in run.journal.read_text().splitlines()]
    line = last_line(run)
    assert "loss of optimiser step 5 is nan" in line
    assert all(name in line for name in seen[4][2])  # the batch it happened on
    assert "the step was not taken" in line
    whole = torch.load(run.root / "checkpoints" / "last.ckpt", weights_only=True)
    assert whole["global_step"] == 3
    assert all(tensor.isfinite().all() for tensor in whole["state_dict"].values())
