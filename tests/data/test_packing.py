"""Packed files: the same rows as unpacked, and one line for what is damaged."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from align.data.readers import read_rows, rows_from
from align.data.shards import shards_of
from align.data.source import Source
from align.errors import DataError

ROWS = [{"prompt": f"question {n} \u2028 é", "completion": "a" * 50} for n in range(300)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("kind", PACKED)
def test_rows_of_a_packed_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"train.jsonl.{kind}"
    path.write_bytes(PACKED[kind](TEXT))
    assert [located.row for located in read_rows(path)] == ROWS
    assert [one.row for one in rows_from(path, 250) if not isinstance(one, DataError)] == ROWS[250:]
    (shard,) = shards_of(Source(str(tmp_path)), "train")  # a folder finds it by its name
    assert sum(1 for _ in shard.rows(10)) == 290


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("cut", [7, -9])
def test_a_packed_file_that_is_cut_off(kind: str, cut: int, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(PACKED[kind](TEXT)[:cut])
    with pytest.raises(DataError, match=rf"train\.jsonl: damaged {kind} file \(.*\): fetch it again"):
        list(read_rows(path))


@pytest.mark.parametrize("kind", ["bzip2", "xz", "zstd"])
def test_one_that_grows_without_measure(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(PACKED[kind](b"a" * 2**27))
    with pytest.raises(DataError, match=rf"bytes of {kind} hold more than 67,108,864"):
        list(read_rows(path))
