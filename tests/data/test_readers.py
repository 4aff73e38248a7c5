"""Files of every format, and what damaged ones are told."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from align.data.drop_report import RowError
from align.data.readers import read_rows
from align.errors import DataError

ROWS = [{"prompt": "a ½ \u2028 b", "n": 1}, {"prompt": 'x,\n"y"', "n": 2}]
JSONL = "\n".join(map(json.dumps, ROWS))


def rows_of(path: Path) -> list[dict]:
    return [located.row for located in read_rows(path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", JSONL),
        ("a.jsonl", "\n\n" + JSONL.replace("\n", "\n\n") + "\n"),
        ("a.json", JSONL),  # lines in a .json file
        ("a.json", json.dumps(ROWS)),
        ("a.json", json.dumps(ROWS, indent=2)),
        ("a.jsonl", "\ufeff" + JSONL),
        ("a.jsonl", "\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS)),  # a raw U+2028 inside a line
    ],
)
def test_json_in_its_forms(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert rows_of(path) == ROWS
    zipped = tmp_path / "zipped.json"  # gzip under any name
    zipped.write_bytes(gzip.compress(content.encode()))
    assert rows_of(zipped) == ROWS


def test_one_object_over_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps(ROWS[0], indent=2))
    assert rows_of(path) == ROWS[:1]


def test_csv_tsv_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,n\n"x, ""y""\nz",1\n')
    assert rows_of(tmp_path / "a.csv") == [{"prompt": 'x, "y"\nz', "n": "1"}]
    (tmp_path / "a.tsv").write_text("prompt\tn\nx\t1\n")
    assert rows_of(tmp_path / "a.tsv") == [{"prompt": "x", "n": "1"}]
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == ROWS


def test_a_ten_megabyte_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "x" * 10_000_000}))
    assert len(rows_of(path)[0]["prompt"]) == 10_000_000


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b"\n \n\n", "the file is empty"),
        ("a.jsonl", b'{"a": 1}\n{"a": 2, "b', r"line 2: not valid JSON.*the file ends inside this row"),
        ("a.jsonl", b'{"a": 1}\nnot json\n{"a": 2}', "line 2: not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n[1, 2]\n', "line 2: expected an object with named columns, found list"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16 text, expected UTF-8"),
        ("a.jsonl", b'{"a": "ok"}\n{"a": "\xff"}', "line 2: byte 0xff is not UTF-8"),
        ("a.json", b"[1, 2", "not valid JSON"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        ("a.jsonl", b"<html>Not found</html>", "expected JSONL, JSON, Parquet, CSV or TSV"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}', mtime=0)[:-6], "damaged gzip file"),
        ("a.parquet", b"PAR1 nonsense", "damaged Parquet file"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3: expected 2 columns"),
        ("a.csv", b"a,b\n1\n", "line 2: expected 2 columns"),
        ("a.json", b"[]", "holds no rows"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        rows_of(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.bad_input
def test_missing_files_folders_and_pipes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        rows_of(tmp_path / "missing.jsonl")
    with pytest.raises(DataError, match="not a regular file"):
        rows_of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        rows_of(tmp_path / "pipe")


@pytest.mark.bad_input
def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(JSONL)
    reader = read_rows(path)
    next(reader)
    path.write_text(JSONL + "\n" + JSONL)
    with pytest.raises(DataError, match="changed while it was read"):
        list(reader)


@pytest.mark.bad_input
@pytest.mark.parametrize("line", ['{"prompt": "a", "prompt": "b"}', '{"prompt": {"a": 1, "a": 2}}'])
def test_a_key_that_stands_twice_drops_its_row(tmp_path: Path, line: str) -> None:
    """JSON itself keeps the last in silence."""
    path, found = tmp_path / "a.jsonl", []
    path.write_text(f"{JSONL}\n{line}\n")
    assert [located.row for located in read_rows(path, found.append)] == ROWS
    assert [error.reason for error in found] == ["one key twice"]
    with pytest.raises(RowError, match=r"line 3: key '\w+' stands twice in one object"):
        rows_of(path)
    path.write_text(f"[{JSONL.splitlines()[0]}, {line}]")
    with pytest.raises(DataError, match=r"key '\w+' stands twice in one object"):
        rows_of(path)


@pytest.mark.bad_input
def test_gzip_that_grows_without_measure_is_refused(tmp_path: Path) -> None:
    """128 MiB of one letter: 1000 times what the file has."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(b"a" * 2**27))
    with pytest.raises(DataError, match=r"bytes of gzip hold more than 67,108,864"):
        rows_of(path)
