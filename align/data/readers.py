"""Rows of a file, whatever its format, each with the place it came from; a damaged file is refused by line."""

from __future__ import annotations

import codecs
import itertools
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from align.data.drop_report import RowError
from align.data.foreign_files import check_kind
from align.data.json_rows import is_row, json_document, json_lines, only_row
from align.data.located import Located, Row
from align.data.packing import DAMAGED, opened, packing
from align.errors import DataError, shorten
from align.files import file_hash

__all__ = ["Located", "Row", "content_hash", "is_read_whole", "read_rows", "rows_from", "stamp"]
Fault = Callable[[RowError], None]
UNZIPPED, RATIO = 2**26, 200
"""A packed file may hold so many bytes, or so many times its own."""


def read_rows(path: Path, fault: Fault | None = None) -> Iterator[Located]:
    """Yield the rows of a JSONL, JSON, Parquet, CSV or TSV file, packed or not; the content decides, not the name.

    Raises DataError for a missing, empty, foreign or damaged file, and for one that changes while it is read. A line
    that is no row is given to `fault` where there is one, and raised otherwise.
    """
    for located in rows_from(path):
        if isinstance(located, Located):
            yield located
        elif fault is None:
            raise located
        else:
            fault(located)


def rows_from(path: Path, start: int = 0) -> Iterator[Located | RowError]:
    """Yield the rows of a file and the lines that are none, but for the first `start` of them, which are not parsed.

    A Parquet file is entered at the row group that holds the first one asked for.
    """
    before = stamp(path)
    count = start
    try:
        for located in _parse(path, start):
            count += 1
            yield located
    except (*DAMAGED, OSError) as error:
        if not (kind := packing(path)):
            raise DataError(f"{path}: cannot be read ({error})") from error
        raise DataError(f"{path}: damaged {kind} file ({error}): fetch it again") from error
    if count == 0:
        raise DataError(f"{path}: the file holds no rows")
    if stamp(path) != before:
        raise DataError(f"{path}: the file changed while it was read: start again when it is complete")


def is_read_whole(path: Path) -> bool:
    """Tell whether a file is of a kind that is in memory as a whole while it is read: a table of text, a document."""
    with opened(path) as file:
        head = file.peek(64)
        if head[:4] == b"PAR1":
            return bool(packing(path))
        return bool(_suffixes(path) & {".csv", ".tsv"}) or head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"["


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a data file's bytes. Raises DataError for what is not a regular file."""
    stamp(path)
    return file_hash(path)


def stamp(path: Path) -> tuple[int, int]:
    """Return the size of a file and when it was written. Raises DataError for what is not a regular file."""
    try:
        info = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(info.st_mode):
        raise DataError(f"{path}: not a regular file")
    return info.st_size, info.st_mtime_ns


def _pieces(path: Path, file: Any, *, lines: bool) -> Iterator[bytes]:
    """Yield the lines of a file, or all of it. Raises DataError for a packed file that grows without measure."""
    limit = max(UNZIPPED, RATIO * path.stat().st_size) if packing(path) else 2**62
    left = limit
    while piece := file.readline(left + 1) if lines else file.read(min(left + 1, 2**24)):
        left -= len(piece)
        if left < 0:
            raise DataError(
                f"{path}: {path.stat().st_size:,} bytes of {packing(path)} hold more than {limit:,}, which no rows do: "
                "unpack it yourself if it is what you mean"
            )
        yield piece


def _suffixes(path: Path) -> set[str]:
    return {suffix.lower() for suffix in path.suffixes}


def _parse(path: Path, start: int) -> Iterator[Located | RowError]:
    """Yield the rows from one on as they are read; JSONL and Parquet are never in memory as a whole."""
    with opened(path) as file:
        head = file.peek(64)
        if head[:4] == b"PAR1":
            from align.data.parquet import read_parquet

            yield from read_parquet(path, file if packing(path) else None, start)
            return
        check_kind(path, file.peek(512))
        suffixes = _suffixes(path)
        if suffixes & {".csv", ".tsv"} and (text := _whole(path)).strip():
            from align.data.tables import read_table

            yield from itertools.islice(read_table(path, text, tabs=".tsv" in suffixes), start, None)
            return
        yield from _json(path, file, start)


def _json(path: Path, file: Any, start: int) -> Iterator[Located | RowError]:
    """Yield the rows of JSON text: one to a line, or a document."""
    lines = enumerate(_lines(path, file), 1)
    first = next((numbered for numbered in lines if numbered[1].strip()), None)
    if first is None:
        raise DataError(f"{path}: the file is empty")
    if first[1].lstrip()[0] not in "[{":
        found = shorten(_whole(path), 30)
        raise DataError(f"{path}: expected JSONL, JSON, Parquet, CSV or TSV, found {found!r}")
    if is_row(path, first[1]):
        second = next((numbered for numbered in lines if numbered[1].strip()), None)
        if second is None:
            yield from itertools.islice(only_row(path, first[1]), start, None)
            return
        filled = (numbered for numbered in itertools.chain([first, second], lines) if numbered[1].strip())
        yield from json_lines(path, itertools.islice(filled, start, None))
    else:
        yield from itertools.islice(json_document(path, _whole(path)), start, None)


def _whole(path: Path) -> str:
    """Return the text of a file that has to be read at once."""
    with opened(path) as file:
        data = b"".join(_pieces(path, file, lines=False))
    try:
        return str(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _foreign(path, data.count(b"\n", 0, error.start) + 1, error) from error


def _foreign(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    byte = f"{error.object[error.start]:02x}"
    how = "such as `iconv -f CP1252 -t UTF-8` for a file of Excel's"
    return DataError(f"{path}, line {line}: byte 0x{byte} is not UTF-8: convert the file, {how}")


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
