"""Rows of a file, whatever its format, each with the place it came from; a damaged file is refused by line."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import itertools
import json
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from align.data.report import RowError
from align.errors import DataError, shorten

Row = dict[str, Any]
ROWS = 1000
"""Rows of a Parquet file that are in memory at a time."""
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
    count = 0
    try:
        for located in _parse(path):
            count += 1
            if isinstance(located, Located):
                yield located
            elif fault is None:
                raise located
            else:
                fault(located)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}): fetch it again") from error
    if count == 0:
        raise DataError(f"{path}: the file holds no rows")
    if _stamp(path) != before:
        raise DataError(f"{path}: the file changed while it was read: start again when it is complete")


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's bytes. Raises DataError for what is not a regular file."""
    _stamp(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        info = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(info.st_mode):
        raise DataError(f"{path}: not a regular file")
    return info.st_size, info.st_mtime_ns


def _opened(path: Path) -> Any:
    """Return a file to read bytes from, unpacked where it is packed."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _pieces(path: Path, file: Any, *, lines: bool) -> Iterator[bytes]:
    """Yield the lines of a file, or all of it. Raises DataError for gzip that grows without measure."""
    limit = max(UNZIPPED, RATIO * path.stat().st_size) if isinstance(file, gzip.GzipFile) else 2**62
    left = limit
    while piece := file.readline(left + 1) if lines else file.read(min(left + 1, 2**24)):
        left -= len(piece)
        if left < 0:
            raise DataError(
                f"{path}: {path.stat().st_size:,} bytes of gzip hold more than {limit:,}, which no rows do: unpack it "
                "yourself if it is what you mean"
            )
        yield piece


def _parse(path: Path) -> Iterator[Located | RowError]:
    """Yield the rows as they are read; JSONL and Parquet are never in memory as a whole."""
    with _opened(path) as file:
        head = file.peek(64)
        if head[:4] == b"PAR1":
            yield from _parquet(path, file)
            return
        if head.startswith(b"version https://git-lfs"):
            raise DataError(f"{path}: a Git LFS pointer, not the data: run `git lfs pull`")
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path}: UTF-16 text, expected UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")
        suffixes = {suffix.lower() for suffix in path.suffixes}
        if suffixes & {".csv", ".tsv"} and (text := _whole(path)).strip():
            from align.data.tables import read_table

            yield from read_table(path, text, tabs=".tsv" in suffixes)
            return
        lines = enumerate(_lines(path, file), 1)
        first = next((numbered for numbered in lines if numbered[1].strip()), None)
        if first is None:
            raise DataError(f"{path}: the file is empty")
        if first[1].lstrip()[0] not in "[{":
            found = shorten(_whole(path), 30)
            raise DataError(f"{path}: expected JSONL, JSON, Parquet, CSV or TSV, found {found!r}")
        if _is_row(path, first[1]):
            yield from _json_lines(path, itertools.chain([first], lines))
        else:
            yield from _json_document(path, _whole(path))


def _whole(path: Path) -> str:
    """Return the text of a file that has to be read at once."""
    with _opened(path) as file:
        data = b"".join(_pieces(path, file, lines=False))
    try:
        return str(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _foreign(path, data.count(b"\n", 0, error.start) + 1, error) from error


def _foreign(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    return DataError(f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8: convert the file")


def _lines(path: Path, file: Any) -> Iterator[str]:
    """Yield the lines of UTF-8 text, which end with any of the three ends of a line (U+2028 is text)."""
    for number, raw in enumerate(_pieces(path, file, lines=True), 1):
        try:
            line = (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).decode()
        except UnicodeDecodeError as error:
            raise _foreign(path, number, error) from error
        line = line.removesuffix("\n")
        if "\r" in line:
            yield from line.removesuffix("\r").split("\r")
        else:
            yield line


def _is_row(path: Path, line: str) -> bool:
    """Tell whether a line is a row, and not the beginning of a document."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return path.suffix == ".jsonl" or "}" in line


def _json_lines(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[Located | RowError]:
    """Yield one row per line. A fault in the last of them means that the file is cut off."""
    fault: tuple[str, Exception] | None = None
    for number, line in lines:
        if not line.strip():
            continue
        if fault is not None:
            place, wrong = fault
            yield RowError(place, "not valid JSON", f"not valid JSON, {wrong}: repair or remove the line")
            fault = None
        where = f"{path}, line {number}"
        try:
            row = json.loads(line.lstrip("\ufeff"), object_pairs_hook=_once)
        except _Twice as error:
            yield RowError(where, "one key twice", f"{error}: remove one")
        except (ValueError, RecursionError) as error:
            fault = where, error
        else:
            yield _located(where, row)
    if fault is not None:
        place, wrong = fault
        cut = "(the file ends inside this row): fetch it again, or remove the line"
        raise DataError(f"{place}: not valid JSON, {wrong} {cut}") from wrong


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


def _parquet(path: Path, file: Any) -> Iterator[Located]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pa.BufferReader(file.read()) if isinstance(file, gzip.GzipFile) else str(path)
    try:
        batches = pq.ParquetFile(source, page_checksum_verification=True).iter_batches(ROWS)
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield Located(f"{path}, row {number}", row)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged Parquet file ({shorten(error)})") from error
