"""Rows of JSON text: one to a line, or one document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from align.data.drop_report import RowError
from align.data.located import Located, Row
from align.errors import DataError, shorten


def is_row(path: Path, line: str) -> bool:
    """Tell whether a line is a row, and not the beginning of a document."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return path.suffix == ".jsonl" or "}" in line


def json_lines(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[Located | RowError]:
    """Yield one row per line, none of which is empty. A fault in the last of them means that the file is cut off."""
    fault: tuple[str, Exception] | None = None
    for number, line in lines:
        if fault is not None:
            place, wrong = fault
            yield RowError(place, "not valid JSON", f"not valid JSON, {wrong}: repair or remove the line")
            fault = None
        where = f"{path}, line {number}"
        try:
            row = _decode(line.lstrip("\ufeff"))
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


def json_document(path: Path, text: str) -> Iterator[Located | RowError]:
    """Yield the rows of a list, or the one row there is."""
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


_decode = json.JSONDecoder(object_pairs_hook=_once).decode


def _located(where: str, row: object) -> Located | RowError:
    if not isinstance(row, dict):
        found = f"expected an object with named columns, found {type(row).__name__} {shorten(row, 30)!r}"
        return RowError(where, "no object with named columns", found)
    return Located(where, row)
