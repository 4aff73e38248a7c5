"""What tells one version of a class of a user's own from the next, which makes other rows."""

from __future__ import annotations

import hashlib
import inspect
import sys
import uuid
from pathlib import Path

UNKNOWN = uuid.uuid4().hex
"""Stands for code that cannot be read: nothing that another process has made of it is taken for its own."""


def own_code(kind: type) -> str:
    """Return a hash of the files that a class outside the package, and its bases outside, stand in; empty for ours.

    What such a file imports is not looked at.
    """
    known = {"align", *sys.stdlib_module_names}
    outside = [base for base in kind.__mro__ if base.__module__.split(".")[0] not in known]
    texts = list(dict.fromkeys(map(_text, outside)))
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:16] if texts else ""


def _text(kind: type) -> str:
    """Return the file a class stands in, or its own lines where it was typed into a notebook."""
    try:
        file = Path(inspect.getfile(kind))
        return file.read_text(encoding="utf-8") if file.is_file() else inspect.getsource(kind)
    except (OSError, TypeError):
        return UNKNOWN
