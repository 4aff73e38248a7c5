"""Processes that see different folders, checkpoints or data are refused by name before one of them writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from align.cli import shared_folder
from align.cli.shared_folder import check_same_data, check_same_start, check_shared
from align.errors import AlignError
from tests.processes.runs import WORLD, Pair, command, told_by_each
from tests.tiny import write_pairs


def told(folder: Path, check: Callable[[int], None]) -> list[str]:
    """Return what a check says on each of two processes."""

    def own(rank: int) -> int:
        store = dist.FileStore(str(folder / "store"), WORLD)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
        try:
            check(rank)
            line = "agreed"
        except AlignError as error:
            line = str(error)
        (folder / f"told.{rank}").write_text(line)
        dist.barrier()
        return 0

    return told_by_each(own, folder)


@pytest.mark.parametrize("shared", [True, False])
def test_one_folder(shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_folder, "PATIENCE", 0.3)
    lines = told(tmp_path, lambda rank: check_shared(tmp_path / ("run" if shared else f"run{rank}")))
    if shared:
        assert lines == ["agreed"] * WORLD
        assert list((tmp_path / "run").iterdir()) == []
    else:
        assert all(": rank 1 on " in line and "(1 of 2 processes)" in line for line in lines), lines


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        (("a", "a"), "agreed"),
        ((None, None), "agreed"),
        (("a", "b"), "last.ckpt, rank 1 from "),
        ((None, "b"), "rank 0 would begin from no checkpoint, rank 1 from "),
        (("a", None), "last.ckpt, rank 1 from no checkpoint: "),
    ],
)
def test_one_start(notes: tuple[str | None, str | None], says: str, tmp_path: Path) -> None:
    def check(rank: int) -> None:
        note, checkpoint = notes[rank], tmp_path / str(rank) / "last.ckpt"
        if note is None:
            check_same_start(tmp_path, None)
            return
        checkpoint.parent.mkdir()
        checkpoint.with_suffix(".json").write_text(note)
        os.chdir(checkpoint.parent)
        check_same_start(tmp_path, "last.ckpt")

    assert all(says in line for line in told(tmp_path, check))


def test_one_set_of_data(tmp_path: Path) -> None:
    assert told(tmp_path, lambda rank: check_same_data("abc")) == ["agreed"] * WORLD


class Apart(Pair):
    """One command whose second process reads another file under the same name, or has another folder."""

    second: tuple[str, str]

    def go(self, *arguments: object) -> int:
        if os.environ["RANK"] == "1":
            self.words = [word.replace(*self.second) for word in self.words]
        return super().go(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("second", ["data", pytest.param("folder", marks=pytest.mark.slow)])
def test_a_run_of_machines_apart_is_refused(second: str, tmp_path: Path, model_folder: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    pairs = write_pairs(tmp_path / "one" / "pairs.jsonl", 40)
    write_pairs(tmp_path / "two" / "pairs.jsonl", 36)
    run = Apart(tmp_path / "run", command("sft", pairs, model_folder, strategy="ddp"))
    run.second = ("one/pairs", "two/pairs") if second == "data" else (str(tmp_path / "run"), str(tmp_path / "other"))
    shared_folder.PATIENCE, before = 0.3, shared_folder.PATIENCE
    try:
        assert run() == 2
    finally:
        shared_folder.PATIENCE = before
    expected = "rank 0 has read data of fingerprint" if second == "data" else "rank 1 on "
    assert expected in run.log, run.log
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert "Traceback" not in run.log
