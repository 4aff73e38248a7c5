"""Shards in a group of one process: what they hold, what is refused, what is left."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh

from align.data.loader import check_processes
from align.errors import ResumeError
from align.training.optimizer_names import named, numbered
from align.training.shard_files import (
    INDEX,
    SHARDS,
    SafeReader,
    assembled,
    differing,
    missing,
    remove_orphans,
    write_shards,
)

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1)}


@pytest.fixture
def checkpoint(mesh: DeviceMesh, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A checkpoint of two parameters whose optimiser has `b` first."""
    folder = tmp_path / "last-00000000.shards"
    state = {name: {"step": torch.tensor(3.0), "exp_avg": values + 1} for name, values in WEIGHTS.items()}
    files = write_shards({"state_dict": WEIGHTS, "optimizer_0": state}, folder, None)
    groups = [{"lr": 0.1, "params": ["b"]}, {"lr": 0.2, "params": ["a"]}]
    small = {"state_dict": {}, "optimizer_states": [{"state": {}, "param_groups": groups}]}
    path = tmp_path / "last.ckpt"
    torch.save(content := {**small, SHARDS: {"folder": folder.name, "files": files, "processes": 1}}, path)
    return path, content


def test_one_process_reads_what_its_own_optimiser_takes(checkpoint: tuple[Path, dict[str, Any]]) -> None:
    path, content = checkpoint
    found = assembled(content, path)
    assert found["state_dict"].keys() == WEIGHTS.keys()
    assert all(torch.equal(found["state_dict"][name], values) for name, values in WEIGHTS.items())
    (state,) = found["optimizer_states"]
    assert state["param_groups"] == [{"lr": 0.1, "params": [0]}, {"lr": 0.2, "params": [1]}]
    assert torch.equal(state["state"][0]["exp_avg"], WEIGHTS["b"] + 1)
    assert torch.equal(state["state"][1]["exp_avg"], WEIGHTS["a"] + 1)


def test_names_and_numbers_are_one_another() -> None:
    groups = [{"lr": 0.1, "params": ["b"]}, {"lr": 0.2, "params": ["a", "c"]}]
    state = {"a": {"step": 1}, "b": {"step": 2}, "c": {"step": 3}}
    saved = numbered(state, groups)
    assert saved["state"] == {0: {"step": 2}, 1: {"step": 1}, 2: {"step": 3}}
    assert named(saved, [{"params": ["b"]}, {"params": ["a", "c"]}]) == {"state": state, "param_groups": groups}


def test_shards_that_are_not_those_written(checkpoint: tuple[Path, dict[str, Any]]) -> None:
    path, content = checkpoint
    shard = path.parent / content[SHARDS]["folder"] / "__0_0.distcp"
    assert not missing(path, content[SHARDS])
    assert not differing(path, content[SHARDS])
    whole = shard.read_bytes()
    shard.write_bytes(b"x" + whole[1:])
    assert "__0_0.distcp is damaged, or of another run" in differing(path, content[SHARDS])
    shard.write_bytes(whole[1:])
    assert f"has {len(whole) - 1} bytes, expected {len(whole)}" in missing(path, content[SHARDS])
    shard.unlink()
    assert "__0_0.distcp is missing" in missing(path, content[SHARDS])
    with pytest.raises(ResumeError, match="missing"):
        assembled(content, path)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("run_by_the_index",)


@pytest.mark.injection
@pytest.mark.parametrize("content", [Code(), {"a": 1}, pickle.dumps(Code()), b""])
def test_code_in_an_index_is_not_run(content: Any, checkpoint: tuple[Path, dict[str, Any]]) -> None:
    folder = checkpoint[0].parent / checkpoint[1][SHARDS]["folder"]
    (folder / INDEX).write_bytes(content) if isinstance(content, bytes) else torch.save(content, folder / INDEX)
    with pytest.raises(ResumeError, match="the index is not one of ours"):
        SafeReader(folder).read_metadata()
    assert not Path("run_by_the_index").exists()


def test_shards_without_a_checkpoint_are_removed(checkpoint: tuple[Path, dict[str, Any]]) -> None:
    path, _ = checkpoint
    for name in ("last-11111111.shards", "other-22222222.shards", "last-of-mine.shards"):
        (path.parent / name).mkdir()
    remove_orphans(path.parent)
    assert sorted(p.name for p in path.parent.glob("*.shards")) == ["last-00000000.shards", "last-of-mine.shards"]


def test_another_number_of_processes_is_told() -> None:
    with pytest.warns(UserWarning, match="of 2 processes and goes on with 1: the steps are the same"):
        check_processes({"world_size": 2}, 1)
