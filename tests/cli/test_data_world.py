"""`align data world`: what was cut off leaves no folder that the same command then refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.main import main
from align.data import synthetic_files

FEW = ["--preferences.size", "3", "--preferences.held_out_size", "2"]


def test_one_that_was_cut_off_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rows = tmp_path / "files", synthetic_files.FORMATS["lists"]

    def cut_off(example: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(synthetic_files.FORMATS, "lists", rows._replace(rows=cut_off))
    assert main(["data", "world", "--out", str(out), *FEW]) == 130
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert main(["data", "world", "--out", str(out), *FEW]) == 0
    assert len((out / "lists/train.jsonl").read_text().splitlines()) == 3
    assert (out / "synthetic_world.json").is_file()


def test_an_empty_folder_is_written_into_and_another_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "files").mkdir()
    assert main(["data", "world", "--out", str(tmp_path / "files"), *FEW]) == 0
    assert main(["data", "world", "--out", str(tmp_path / "files"), *FEW]) == 2
    assert "not empty: name another folder" in capsys.readouterr().err
