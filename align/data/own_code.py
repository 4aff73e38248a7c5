"""What tells one version of a class of a user's own from the next, which makes other rows."""

from __future__ import annotations

import hashlib
import inspect
import uuid
from pathlib import Path

from align.source_code import NOT_OWN, own_hash

UNKNOWN = uuid.uuid4().hex
"""Stands for code that cannot be read: nothing that another process has made of it is taken for its own."""


def own_code(kind: type) -> str:
    """Return a hash of the files that a class outside the package, and its bases outside, stand in; empty for ours.

    What such a file imports of the user's own is a part of it.
    """
    outside = [base for base in kind.__mro__ if base.__module__.split(".")[0] not in NOT_OWN]
    texts = list(dict.fromkeys(map(_text, outside)))
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:16] if texts else ""


def _text(kind: type) -> str:
    """Return a hash of the file a class stands in, or its own lines where it was typed into a notebook."""
    try:
        file = Path(inspect.getfile(kind))
        return own_hash(file) if file.is_file() else inspect.getsource(kind)
    except (OSError, TypeError):
        return UNKNOWN
