"""Rows of JSON text: one to a line, or one document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from align.data.drop_report import RowError
from align.data.json_containers import rows_inside
from align.data.located import Located, Row
from align.data.turn_parts import SPEAKER
from align.errors import DataError, shorten


def is_row(path: Path, line: str) -> bool:
    """Tell whether a line is a row, and not the beginning of a document, or several rows without line ends."""
    if line.strip() == "{" or line.lstrip().startswith("["):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return not _several(line) and (path.suffix == ".jsonl" or "}" in line)


def _several(line: str) -> bool:
    """Tell whether an object of a line is followed by another at once."""
    try:
        first, end = json.JSONDecoder().raw_decode(line.lstrip())
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and line.lstrip()[end:].lstrip().startswith("{")


def only_row(path: Path, line: str) -> Iterator[Located | RowError]:
    """Yield what a file of one line holds: a row, or an object with rows inside."""
    try:
        inside = rows_inside(json.loads(line, object_pairs_hook=_once))
    except (ValueError, RecursionError):
        inside = None
    if inside is None:
        yield from json_lines(path, [(1, line)])
    else:
        yield from (_located(f"{path}, row {number}", row) for number, row in enumerate(inside, 1))


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
    """Yield the rows of a list, of an object that holds some, or of several objects or dialogues in a row."""
    try:
        documents = _documents(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON, {error}") from error
    if len(documents) > 1:
        rows = documents
    else:
        (document,) = documents
        rows = document if isinstance(document, list) else rows_inside(document) or [document]
    for number, row in enumerate(rows, 1):
        yield _located(f"{path}, row {number}", row)


def _documents(text: str) -> list[Any]:
    """Return the values of a text. Raises ValueError for one that is no JSON, by its place."""
    found: list[Any] = []
    place = _SPACE.match(text).end()  # type: ignore[union-attr]
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    while place < len(text) or not found:
        value, place = decoder.raw_decode(text, place)
        found.append(value)
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
    return found


_SPACE = re.compile(r"\s*")


class _Twice(ValueError):
    """A key that stands twice: JSON keeps the last in silence."""


def _once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"key {next(n for n in names if names.count(n) > 1)!r} stands twice in one object")
    return row


_decode = json.JSONDecoder(object_pairs_hook=_once).decode


def _is_dialogue(value: object) -> bool:
    """Tell whether a row is the turns of a dialogue."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(turn, dict) and not turn.keys().isdisjoint(SPEAKER) for turn in value)


def _located(where: str, row: object) -> Located | RowError:
    if _is_dialogue(row):
        row = {"messages": row}
    if not isinstance(row, dict):
        found = f"expected an object with named columns, found {type(row).__name__} {shorten(row, 30)!r}"
        return RowError(where, "no object with named columns", found)
    return Located(where, row)
