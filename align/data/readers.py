"""Rows of a file, whatever its format, each with the place it came from; a damaged file is refused by line."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from align.data.report import RowError
from align.errors import DataError, shorten

Row = dict[str, Any]
Fault = Callable[[RowError], None]
UNZIPPED, RATIO = 2**26, 200
"""A gzip file may hold so many bytes, or so many times its own."""


class Located(NamedTuple):
    """A row and where it stands, as `file, line n` or `dataset, row n`."""

    where: str
    row: Row


def read_rows(path: Path, fault: Fault | None = None) -> Iterator[Located]:
    """Yield the rows of a JSONL, JSON, Parquet, CSV or TSV file, gzipped or not; the content decides, not the name.

    Raises DataError for a missing, empty, foreign or damaged file, and for one that changes while it is read. A line
    that is no row is given to `fault` where there is one, and raised otherwise.
    """
    before = _stamp(path)
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = _unzipped(path, data)
    count = 0
    for located in _parse(path, data):
        count += 1
        if isinstance(located, Located):
            yield located
        elif fault is None:
            raise located
        else:
            fault(located)
    if count == 0:
        raise DataError(f"{path}: the file holds no rows")
    if _stamp(path) != before:
        raise DataError(f"{path}: the file changed while it was read: start again when it is complete")


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's bytes. Raises DataError for what is not a regular file."""
    _stamp(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unzipped(path: Path, data: bytes) -> bytes:
    """Return what a gzip file holds. Raises DataError for a damaged one, and for one that grows without measure."""
    limit = max(UNZIPPED, RATIO * len(data))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}): fetch it again") from error
    if len(found) > limit:
        raise DataError(
            f"{path}: {len(data):,} bytes of gzip hold more than {limit:,}, which no rows do: unpack it yourself if it "
            "is what you mean"
        )
    return found


def _stamp(path: Path) -> tuple[int, int]:
    try:
        info = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(info.st_mode):
        raise DataError(f"{path}: not a regular file")
    return info.st_size, info.st_mtime_ns


def _parse(path: Path, data: bytes) -> Iterator[Located | RowError]:
    if data[:4] == b"PAR1":
        return _parquet(path, data)
    if data.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: a Git LFS pointer, not the data: run `git lfs pull`")
    text = _decode(path, data)
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    suffixes = {s.lower() for s in path.suffixes}
    if suffixes & {".csv", ".tsv"}:
        from align.data.tables import read_table

        return read_table(path, text, tabs=".tsv" in suffixes)
    if text.lstrip()[0] not in "[{":
        raise DataError(f"{path}: expected JSONL, JSON, Parquet, CSV or TSV, found {shorten(text, 30)!r}")
    return _json(path, text)


def _decode(path: Path, data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: UTF-16 text, expected UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8: convert the file"
        ) from error


def _json(path: Path, text: str) -> Iterator[Located | RowError]:
    """Yield JSONL rows, or those of one JSON list or object."""
    lines = re.split(r"\r\n|\n|\r", text) if "\r" in text else text.split("\n")  # not splitlines(): U+2028 is text
    first = next(line for line in lines if line.strip())
    try:
        is_lines = isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        is_lines = path.suffix == ".jsonl" or "}" in first
    if not is_lines:
        yield from _json_document(path, text)
        return
    last = max(number for number, line in enumerate(lines, 1) if line.strip())
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            yield _located(where, json.loads(line.lstrip("\ufeff"), object_pairs_hook=_once))
        except _Twice as error:
            yield RowError(where, "one key twice", f"{error}: remove one")
        except (ValueError, RecursionError) as error:
            if number == last:
                cut = "(the file ends inside this row): fetch it again, or remove the line"
                raise DataError(f"{where}: not valid JSON, {error} {cut}") from error
            yield RowError(where, "not valid JSON", f"not valid JSON, {error}: repair or remove the line")


def _json_document(path: Path, text: str) -> Iterator[Located | RowError]:
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON, {error}") from error
    rows = document if isinstance(document, list) else [document]
    for number, row in enumerate(rows, 1):
        yield _located(f"{path}, row {number}", row)


class _Twice(ValueError):
    """A key that stands twice: JSON keeps the last in silence."""


def _once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"key {next(n for n in names if names.count(n) > 1)!r} stands twice in one object")
    return row


def _located(where: str, row: object) -> Located | RowError:
    if not isinstance(row, dict):
        found = f"expected an object with named columns, found {type(row).__name__} {shorten(row, 30)!r}"
        return RowError(where, "no object with named columns", found)
    return Located(where, row)


def _parquet(path: Path, data: bytes) -> Iterator[Located]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).iter_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield Located(f"{path}, row {number}", row)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged Parquet file ({shorten(error)})") from error
