"""The files that a command of a study reads from elsewhere, by their content: what a step is done again for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from align.files import file_hash

APART = re.compile(r"[\[\]{},=\s]+")
Configs = Callable[[Sequence[str]], list[tuple[Path, Any]]]
"""Gives the files of settings that a command names, with what they hold."""


def files_read(symbols: Sequence[str], words: Sequence[str], configs_of: Configs) -> dict[str, str]:
    """Return the hashes of all files that a command reads from elsewhere, its settings and what they name included."""
    named = [w for s, w in zip(symbols, words, strict=True) if "<" not in s or s.startswith("<study>")]
    configs = [] if words[:1] == ("python",) else configs_of(without_made_settings(symbols, words))
    inside = [leaf for _, content in configs for leaf in _leaves(content)]
    parts = [part for text in (*named, *inside) for part in (text, *APART.split(text)) if part]
    paths = [path for path, _ in configs] + [Path(part).expanduser() for part in parts if len(part) < 1000]
    return {str(path): _hash(path) for path in dict.fromkeys(paths) if _is_there(path)}


def without_made_settings(symbols: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return a command without `-c FILE` where a step before it writes the file, which may not be there yet."""
    made = [symbol.startswith("<") and not symbol.startswith("<study>") for symbol in symbols]
    left = [n > 0 and words[n - 1] in ("-c", "--config") for n in range(len(words))]
    drops = {n for n, (own, named) in enumerate(zip(made, left, strict=True)) if own and named}
    return [word for n, word in enumerate(words) if n not in drops and n + 1 not in drops]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or (path.is_dir() and "/" in str(path))
    except OSError:
        return False


def _hash(path: Path) -> str:
    """Return the hash of a file; of a folder that of the names and sizes of its files, as weights are large."""
    if path.is_file():
        return file_hash(path)
    sizes = sorted((str(file.relative_to(path)), file.stat().st_size) for file in path.rglob("*") if file.is_file())
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


def _leaves(content: Any) -> Iterator[str]:
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from _leaves(value)
    elif isinstance(content, str):
        yield content
