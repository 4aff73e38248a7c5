"""What is told is one line of a length that can be read, whatever it quotes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.errors import LONGEST, DataError


def test_a_line_keeps_its_beginning_and_its_end() -> None:
    line = str(DataError(f"data.path x: found {'9' * 10_000}: mend the file"))
    assert len(line) == LONGEST
    assert line.startswith("data.path x: found 999")
    assert line.endswith("999: mend the file")
    assert str(DataError("short")) == "short"


def test_a_value_without_end_is_quoted_by_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"messages": [{"role": [10**400] * 9, "content": "hello"}]}))
    with pytest.raises(DataError, match=r"line 1: message role is \[1000") as told:
        PreferenceFile(str(path)).read("train", Report())
    assert len(str(told.value)) < 800
    assert str(told.value).endswith("mend the file, or name its columns with data.columns")
