"""Names of columns as people write them: `Response A` is response_a, and `fields.prompt` a value inside another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from align.data.located import Located, Row


def inside(row: Row, path: str) -> Any:
    """Return the value at names and places joined by dots, such as `choices.0.message`, None where there is none."""
    found: Any = row
    for name in path.split("."):
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def plainly(located: Located) -> Located:
    """Return a row with its columns in lower case and underscores, but for names that would then be the same."""
    plain = [re.sub(r"[\s_-]+", "_", str(name).strip().lower()) for name in located.row]
    names = [new if plain.count(new) == 1 else name for name, new in zip(located.row, plain, strict=True)]
    return Located(located.where, dict(zip(names, located.row.values(), strict=True)))


def texts_inside(row: Row, most: int = 12) -> list[str]:
    """Return the first paths to texts and lists of objects inside the columns of a row."""
    found: list[str] = []
    left: list[tuple[str, Any]] = [(str(name), value) for name, value in row.items()]
    while left and len(found) < most:
        path, value = left.pop(0)
        told = isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], dict))
        if "." in path and told:
            found.append(path)
        if isinstance(value, dict):
            left.extend((f"{path}.{name}", inner) for name, inner in value.items())
        elif isinstance(value, list) and value and isinstance(value[0], dict) and "role" not in value[0]:
            left.append((f"{path}.0", value[0]))
    return found


def paths(columns: Sequence[str], row: Row) -> list[str]:
    """Return which of these names are paths into a row."""
    return [name for name in columns if name not in row and "." in name and inside(row, name) is not None]
