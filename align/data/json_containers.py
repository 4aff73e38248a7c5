"""Rows inside one JSON object: under a name, by their ids, or as whole columns."""

from __future__ import annotations

from typing import Any

from align.data.located import Row
from align.data.turn_parts import SPEAKER

NAMES = ("data", "rows", "instances", "examples", "items", "samples", "records", "entries", "dataset", "train")
"""What a list of rows is called where it is all that a file holds beside notes on itself."""


def rows_inside(document: Any) -> list[Any] | None:
    """Return the rows of an object that is none itself, None for one that is."""
    if not isinstance(document, dict):
        return None
    return _listed(document) or _split(document) or _columns(document) or _by_place(document) or _by_id(document)


def _listed(document: Row) -> list[Any] | None:
    """Return the rows under the only name that holds any, such as `{"data": [...]}`, also those of a data viewer."""
    found = [name for name in NAMES if _objects(document.get(name))]
    if len(found) != 1 or any(_objects(v) for k, v in document.items() if k not in (*found, "features")):
        return None
    rows = document[found[0]]
    if all("row_idx" in row and isinstance(row.get("row"), dict) for row in rows):
        return [row["row"] for row in rows]
    return None if any(not row.keys().isdisjoint(SPEAKER) for row in rows) else list(rows)


def _split(document: Row) -> list[Any] | None:
    """Return what pandas writes by `orient="split"`."""
    names, data = document.get("columns"), document.get("data")
    if not (isinstance(names, list) and isinstance(data, list) and data):
        return None
    if any(not isinstance(cells, list) or len(cells) != len(names) for cells in data):
        return None
    return [dict(zip(names, cells, strict=True)) for cells in data]


def _columns(document: Row) -> list[Any] | None:
    """Return the rows of columns that are lists of one length, as `to_dict` writes them."""
    lists = list(document.values())
    if len(lists) < 2 or not all(isinstance(values, list) and len(values) == len(lists[0]) for values in lists):
        return None
    if len(lists[0]) < 2 or not any(all(isinstance(value, str) for value in values) for values in lists):
        return None
    return [dict(zip(document, cells, strict=True)) for cells in zip(*lists, strict=True)]


def _by_place(document: Row) -> list[Any] | None:
    """Return the rows of columns that are objects by row number, as `DataFrame.to_json` writes them."""
    columns = list(document.values())
    if len(columns) < 2 or not all(isinstance(values, dict) for values in columns):
        return None
    places = list(columns[0])
    if not places or any(list(values) != places for values in columns) or not all(map(str.isdigit, places)):
        return None
    return [{name: document[name][place] for name in document} for place in places]


def _by_id(document: Row) -> list[Any] | None:
    """Return rows that stand under their ids: objects of two shared columns or more, none of them a turn."""
    rows = list(document.values())
    if len(rows) < 2 or not all(isinstance(row, dict) for row in rows):
        return None
    shared = set.intersection(*(set(row) for row in rows))
    if len(shared) < 2 or not shared.isdisjoint(SPEAKER):
        return None
    return [{"id": name, **row} for name, row in document.items()]


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)
