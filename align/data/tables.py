"""Rows of CSV and TSV files, whose cells are text: empty ones are missing, and dialogues are written as lists."""

from __future__ import annotations

import ast
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from align.data.drop_report import RowError
from align.data.readers import Located
from align.errors import DataError


def read_table(path: Path, text: str, *, tabs: bool) -> Iterator[Located | RowError]:
    """Yield the rows. A cell may hold any line separator; columns end at what cuts the header into the most.

    Excel may say first what ends them (`sep=;`). Raises DataError for quotes that do not close.
    """
    csv.field_size_limit(2**31 - 1)
    told, rest = _told(text)
    delimiter = told or ("\t" if tabs else max(",;\t|", key=lambda mark: _columns(text, mark)))
    reader = csv.reader(io.StringIO(rest, newline=""), delimiter=delimiter, strict=True)
    before = bool(told)
    names: list[str] = []
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num + before}"
            if not names:
                names = _names(cells)
                if len(set(names)) < len(names):
                    raise DataError(f"{where}: two columns have the same name: rename one")
            elif cells:
                yield _row(where, names, cells)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + before}: not valid CSV, {error}") from error


def _names(header: list[str]) -> list[str]:
    """Return the names of columns; those without one, as Excel leaves them beside others, are called by their place."""
    names = [cell.strip() for cell in header]
    return [name or f"column {place}" for place, name in enumerate(names, 1)] if any(names) else names


def _told(text: str) -> tuple[str, str]:
    """Return what the first line says that columns end at, nothing where it says nothing, and what follows it."""
    first, _, rest = text.partition("\n")
    said = first.strip("\r").lower()
    return (said[4], rest) if len(said) == 5 and said.startswith("sep=") else ("", text)


def _columns(text: str, delimiter: str) -> int:
    """Return into how many columns the header is cut."""
    try:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))
    except csv.Error:
        return 0


def _row(where: str, names: list[str], cells: list[str]) -> Located | RowError:
    if len(cells) != len(names):
        reason = f"expected {len(names)} columns as in the header"
        return RowError(where, reason, f"{reason}, found {len(cells)}")
    return Located(where, {name: _cell(cell) for name, cell in zip(names, cells, strict=True)})


def _cell(cell: str) -> Any:
    """Return a text, None for an empty one, or the turns of a dialogue."""
    if not cell:
        return None
    if not cell.lstrip().startswith(("[{", "[ {")):
        return cell
    for parse in (json.loads, ast.literal_eval):  # as JSON, or as Python shows a list
        try:
            found = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(turn, dict) for turn in found):
            return found
    return cell
