"""Columns for reward functions: kept beside the prompt, in samples, in sealed rounds, and in what data is known by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.errors import ConfigError, DataError
from align.records import Example, Message
from align.rounds.round_file import read_round, write_round

TEST = {"inputs": ["1 2"], "outputs": [3], "note": 'ünï "quoted"', "none": None}


def source(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> PreferenceFile:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return PreferenceFile(str(path), **options)


def read(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> list[Example]:
    return source(tmp_path, *rows, **options).read("train", Report())


def test_what_is_kept_is_no_response_and_no_label(tmp_path: Path) -> None:
    """Without it an answer is a response, and a key of no known name makes a row that fits no convention."""
    row = {"question": "1 + 2?", "answer": "#### 3"}
    (example,) = read(tmp_path, row)
    assert (example.responses, example.kept) == (("#### 3",), {})
    (example,) = read(tmp_path, row, keep_columns=["answer"])
    assert (example.responses, example.kept) == ((), {"answer": "#### 3"})
    (example,) = read(tmp_path, {"prompt": "p", "label": "C"}, keep_columns=["label"])
    assert example.kept == {"label": "C"}
    with pytest.raises(DataError, match=r"fit no convention"):
        read(tmp_path, {"question": "1 + 2?", "key": "3"})
    assert read(tmp_path, {"question": "1 + 2?", "key": "3"}, keep_columns=["key"])[0].kept == {"key": "3"}


def test_a_prompt_stays_one_and_a_mapped_column_is_read_too(tmp_path: Path) -> None:
    row = {"question": "1 + 2?", "answer": "3", "system": "S", "id": "seven"}
    names = ["question", "answer", "system", "id"]
    (example,) = read(tmp_path, row, keep_columns=names, columns={"completion": "answer"})
    assert example.kept == {name: row[name] for name in names}
    assert example.messages == (Message("system", "S"), Message("user", "1 + 2?"))
    assert (example.id, example.responses) == ("seven", ("3",))


def test_lists_objects_and_rows_without(tmp_path: Path) -> None:
    report = Report()
    rows = [{"prompt": "a", "test": TEST}, {"prompt": "b"}, {"prompt": "c", "test": [[1, 2.5], None, True]}]
    first, second, third = source(tmp_path, *rows, keep_columns=["test"]).read("train", report)
    assert (first.kept, second.kept, third.kept) == tuple({"test": row.get("test")} for row in rows)
    assert isinstance(hash(first), int)
    assert not report.unused


def test_a_sealed_round_holds_them(tmp_path: Path) -> None:
    example = replace(read(tmp_path, {"prompt": "a", "test": TEST}, keep_columns=["test"])[0], responses=("yes",))
    sha256 = write_round(tmp_path / "round.jsonl", [example])
    assert read_round(tmp_path / "round.jsonl", sha256) == [example]


def test_data_is_known_by_them_where_there_are_any(tmp_path: Path) -> None:
    row = {"prompt": "a", "answer": "b", "test": "c"}
    kept = [source(tmp_path, row, keep_columns=names).fingerprint() for names in ([], ["answer"], ["answer", "test"])]
    assert len({*kept}) == 3
    assert source(tmp_path, row).fingerprint() == kept[0]


@pytest.mark.bad_input
class TestFaults:
    def test_a_column_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"data.keep_columns: no column 'answr', did you mean 'answer'"):
            read(tmp_path, {"prompt": "a", "answer": "b"}, keep_columns=["answr"])

    def test_one_that_is_read_past(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"both name 'answer'"):
            source(tmp_path, {"prompt": "a"}, keep_columns=["answer"], ignore_columns=["answer"])

    def test_what_json_cannot_hold_is_counted_by_column(self, tmp_path: Path) -> None:
        rows = [{"prompt": f"p {n}", "when": n} for n in range(3)]
        table = pa.Table.from_pylist(rows).set_column(1, "when", pa.array([1, 2, 3], pa.timestamp("s")))
        pq.write_table(table, tmp_path / "t.parquet")
        with pytest.raises(DataError, match=r"data.keep_columns: 'when' is nothing that JSON can hold"):
            PreferenceFile(str(tmp_path / "t.parquet"), keep_columns=["when"]).read("train", Report())
        report = Report()
        rows = [{"prompt": f"p {n}", "x": float("nan") if n == 1 else n} for n in range(9)]
        assert len(source(tmp_path, *rows, keep_columns=["x"]).read("train", report)) == 8
        assert report.dropped == {"data.keep_columns: 'x' is nothing that JSON can hold": 1}
