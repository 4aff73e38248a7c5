"""JSON as its standard has it: a number that is not finite is written as null, since strict readers refuse NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, indent: int | None = None, *, ascii_only: bool = False) -> str:
    """Return a value as JSON, null for every number that is not finite."""
    return json.dumps(finite(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def finite(value: Any) -> Any:
    """Return plain values with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float | None) -> float:
    """Return a number that was read, NaN where null says that there was none."""
    return math.nan if value is None else float(value)
