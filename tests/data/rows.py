"""Rows of a test in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def written(folder: Path, *rows: dict[str, Any], name: str = "data.jsonl") -> Path:
    """Return the file that holds the rows, one to a line."""
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return path
