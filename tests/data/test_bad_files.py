"""Files that are something else than a table of preferences, and rows that no conversation comes out of: one line each."""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.errors import ConfigError, DataError

pytestmark = pytest.mark.bad_input


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def refused(path: Path, line: str) -> None:
    with pytest.raises(DataError, match=line) as caught:
        PreferenceFile(str(path)).read("train", Report())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"messages": []}, "last turn is not the assistant's"),
        ({"chosen": [], "rejected": []}, "no prompt"),
        ({"chosen": [{"content": "x"}], "rejected": [{"content": "y"}]}, "message role is None"),
        ({"chosen": [{"role": "user"}], "rejected": [{"role": "user"}]}, "message content is None"),
        ({"chosen": [user(5), answer("x")], "rejected": [user(5), answer("y")]}, "message content is int"),
        ({"chosen": [user([{"type": "image"}])], "rejected": [user("q")]}, "a message holds more"),
        ({"chosen": [user("q"), user("x")], "rejected": [user("q"), user("y")]}, "line 1: "),
        ({"chosen": [answer("x")], "rejected": [answer("y")]}, "no prompt"),
        ({"chosen": [user("q"), answer("x")], "rejected": [user("z"), answer("y")]}, "chosen and rejected h"),
        ({"prompt": "q", "chosen": [user("q"), answer("x")], "rejected": "y"}, "chos"),
        ({"prompt": "q", "completions": ["a", "b"], "scores": [1, 2, 3]}, "2 completions but 3"),
        ({"prompt": "q", "completions": ["a", "b"], "scores": "1,2"}, "'scores' is str '1,2'"),
        ({"prompt": "q", "completions": ["a", None], "scores": [1, 2]}, "a completion is No"),
        ({"data": [{"prompt": "a", "chosen": "b", "rejected": "c"}]}, "columns data fit no convention"),
    ],
)
def test_rows(tmp_path: Path, row: dict[str, Any], line: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([json.dumps(row)] * 3))
    refused(path, line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("prompt,chosen,rejected\n", "the file holds no rows"),
        ("q one,a one,b one\nq two,a two,b two\n", "columns q one, a one, b one fit no convention"),
        ('prompt,chosen,rejected\na,"b,c\nd,e,f\n', "not valid CSV, unexpected end of data"),
        ("prompt,prompt,chosen,rejected\na,b,c,d\n", "two columns have the same name"),
        (",,\na,b,c\n", "two columns have the same name"),
        ("prompt,chosen,rejected\né,b,c\n", "line 2: byte 0xe9 is not UTF-8"),
    ],
)
def test_tables(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode("latin-1"))
    refused(path, line)


TEXT = ["a"] * 3


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({name: pa.array([], pa.string()) for name in ("prompt", "chosen", "rejected")}, "the file holds no rows"),
        ({"prompt": [b"\xff"] * 3, "chosen": [b"a"] * 3, "rejected": [b"b"] * 3}, "'chosen' is bytes"),
        ({"prompt": pa.nulls(3), "chosen": TEXT, "rejected": TEXT}, "no prompt"),
        ({"prompt": TEXT, "chosen": [1] * 3, "rejected": [2] * 3}, "'chosen' is int '1'"),
        ({"prompt": TEXT, "chosen": TEXT}, "no key 'rejected'"),
    ],
)
def test_parquet(tmp_path: Path, columns: dict[str, Any], line: str) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(columns), path)
    refused(path, line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("5", "expected JSONL, JSON, Parquet"),
        ("null", "expected JSONL, JSON, Parquet"),
        ('"abc"', "expected JSONL, JSON, Parquet"),
        ("[1, 2, 3]", "row 1: expected an object"),
        ("[[1], [2]]", "row 1: expected an object"),
        ('// hi\n{"prompt": "a", "chosen": "b", "rejected": "c"}', "expected JSONL, JSON, Parquet"),
        ('[{"prompt": "a", "chosen": "b", "rejected": "c"},]', "not valid JSON"),
        ("{'prompt': 'a', 'chosen': 'b', 'rejected': 'c'}", "not valid JSON"),
        ('{"prompt": NaN, "chosen": "b", "rejected": "c"}', "'prompt' is float"),
        ('{"prompt": "q", "completions": ["a", "b"], "scores": [Infinity, 1]}', "score inf is not finite"),
        ('{"prompt": ' + "9" * 5000 + ', "chosen": "b", "rejected": "c"}', "not valid JSON"),
        ('{"prompt": "a"}{"prompt": ', "not valid JSON, Expecting value"),
        ("<?xml version='1.0'?><a/>", "expected JSONL, JSON, Parquet"),
        ("- prompt: a\n  chosen: b\n", "expected JSONL, JSON, Parquet"),
        ("hello\nworld\n", "expected JSONL, JSON, Parquet"),
        ("print(1)\n", "expected JSONL, JSON, Parquet"),
    ],
)
def test_texts(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(text)
    refused(path, line)


def in_memory(write: Callable[[Any], object]) -> bytes:
    write(file := io.BytesIO())
    return file.getvalue()


def zipped(file: Any) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.jsonl", '{"prompt": "é"}' * 99)


BINARY = {
    "npz": in_memory(lambda file: np.savez(file, a=1)),
    "npy": in_memory(lambda file: np.save(file, np.zeros(3))),
    "zip": in_memory(zipped),
    "pickle": pickle.dumps([{"prompt": "a"}]),
    "pdf": b"%PDF-1.4\n%\xe2\xe3",
    "png": b"\x89PNG\r\n\x1a\n",
    "feather": in_memory(lambda file: pyarrow.feather.write_feather(pa.table({"a": [1]}), file)),
    "half a surrogate": b'{"prompt": "\xed\xa0\x80", "chosen": "b", "rejected": "c"}',
    "overlong UTF-8": b'{"prompt": "\xc0\xaf", "chosen": "b", "rejected": "c"}',
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "Windows quotes": b'{"prompt": "\x93hi\x94", "chosen": "b", "rejected": "c"}',
    "Parquet without its end": in_memory(lambda file: pq.write_table(pa.table({"prompt": ["a"] * 9}), file))[:-3],
}


@pytest.mark.parametrize("name", BINARY)
def test_other_formats(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(BINARY[name])
    refused(path, "UTF|damaged Parquet file|expected JSONL")


def test_a_packed_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00")
    refused(path, "damaged zstd file")


def test_a_database(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE a (b)")
    refused(path, "UTF-8|expected JSONL")


@pytest.mark.parametrize("path", ["", "  "])
def test_no_path(path: str) -> None:
    """It was the current folder, caches and runs included."""
    with pytest.raises(ConfigError, match=r"data\.path is empty"):
        PreferenceFile(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "~nobody/x", "https://x/a.jsonl"])
def test_paths_that_are_no_data(path: str) -> None:
    with pytest.raises(DataError) as caught:
        PreferenceFile(path).read("train", Report())
    assert "\n" not in str(caught.value)
