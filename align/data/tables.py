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
    """Yield the rows. A cell may hold any line separator; a header without commas may be cut at semicolons or tabs.

    Raises DataError for quotes that do not close.
    """
    csv.field_size_limit(2**31 - 1)
    header = text[: text.find("\n")] if "\n" in text else text
    delimiter = "\t" if tabs else next((mark for mark in ",;\t" if mark in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not names:
                names = [cell.strip() for cell in cells]
                if len(set(names)) < len(names):
                    raise DataError(f"{where}: two columns have the same name: rename one")
            elif cells:
                yield _row(where, names, cells)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV, {error}") from error


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
