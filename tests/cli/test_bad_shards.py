"""Folders of data in which one file is not like the others, or is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.test_configs import METHOD
from tests.tiny import write_pairs

pytestmark = pytest.mark.bad_input


class TestShards:
    @pytest.mark.parametrize(
        ("make", "line"),
        [
            (lambda path: path.symlink_to(path.parent / "nowhere"), "a link to nothing, among data files"),
            (lambda path: path.symlink_to(path), "a link to nothing, among data files"),
            (lambda path: path.symlink_to("/dev/zero"), "among data files: mend it, or move it away"),
            (os.mkfifo, "not a regular file, among data files"),
        ],
        ids=["dangling", "loop", "zero", "pipe"],
    )
    def test_a_shard_that_is_no_file(self, told, model_folder: Path, tmp_path: Path, make, line: str) -> None:
        """Reading past it would lose its rows in silence."""
        folder = tmp_path / "data"
        folder.mkdir()
        write_pairs(folder / "train-0.jsonl", 10)
        make(folder / "train-1.jsonl")
        words = ("fit", "-c", METHOD, "--data", "PreferenceFileDataModule", "--data.path", str(folder))
        assert line in told(*words, "--model.backbone.path", str(model_folder))

    def test_parquet_shards_that_disagree(self, told, model_folder: Path, tmp_path: Path) -> None:
        rows = [{"prompt": f"p{i}", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(20)]
        other = {
            "types": [{**row, "chosen": 5} for row in rows],
            "names": [{"question": r["prompt"], "taken": "x", "passed": "y"} for r in rows],
        }
        for name, second in other.items():
            folder = tmp_path / name
            folder.mkdir()
            pq.write_table(pa.Table.from_pylist(rows[:8]), folder / "train-00000-of-00002.parquet")
            pq.write_table(pa.Table.from_pylist(second), folder / "train-00001-of-00002.parquet")
            words = ("fit", "-c", METHOD, "--data", "PreferenceFileDataModule", "--data.path", str(folder))
            line = told(*words, "--model.backbone.path", str(model_folder))
            assert "train-00001-of-00002.parquet, row 1: " in line
