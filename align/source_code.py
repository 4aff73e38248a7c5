"""The Python files that a file of a user's own is made of: itself, and what it imports of the user's own."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from align.files import file_hash

NOT_OWN = {"align", *sys.stdlib_module_names}
"""Packages whose files are not looked at; their versions belong to what a run is made with."""

INSTALLED = {"site-packages", "dist-packages"}


def own_hash(path: Path, folder: Path | None = None) -> str:
    """Return a hash of a file and the files it imports, of `own_files`. Raises OSError for one that is gone."""
    return hashlib.sha256("".join(map(file_hash, own_files(path, folder))).encode()).hexdigest()


def own_files(path: Path, folder: Path | None = None) -> list[Path]:
    """Return a Python file and the files it imports, and they import, sorted by where they are found.

    Nothing is run: what a name stands for is looked up as an import would, on `sys.path` and then in `folder`. Left out
    are the standard library, this package, and what is installed in an environment; an import by a computed name is not
    seen.

    Args:
        path: The file.
        folder: Where its imports are looked for after all other places; None for beside it.
    """
    found, open_ = dict[Path, None](), [path.resolve()]
    while open_:
        file = open_.pop()
        if file in found:
            continue
        found[file] = None
        for node in ast.walk(_tree(file)):
            open_ += [other.resolve() for other in _imported(node, file, folder or path.parent)]
    return [path.resolve(), *sorted(file for file in found if file != path.resolve())]


def _tree(file: Path) -> ast.Module:
    """Return what a file says; nothing for one that is no Python."""
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _imported(node: ast.AST, file: Path, last: Path) -> Iterator[Path]:
    """Yield the files that a statement of a file imports; of `from a import b` also `a.b`, where there is one."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _files_of(alias.name.split("."), last)
    elif isinstance(node, ast.ImportFrom):
        above = node.module.split(".") if node.module else []
        for alias in node.names:
            name = [*above, alias.name]
            yield from _inside(file.parents[node.level - 1], name) if node.level else _files_of(name, last)


def _files_of(name: list[str], last: Path) -> list[Path]:
    """Return the files that importing a name runs; none where it is not the user's own."""
    if name[0] in NOT_OWN:
        return []
    for folder in [*map(Path, sys.path), last]:
        if (folder / name[0]).is_dir() or (folder / f"{name[0]}.py").is_file():
            return [] if INSTALLED & set(folder.parts) else _inside(folder, name)
    return []


def _inside(folder: Path, name: list[str]) -> list[Path]:
    """Return the files of a package and of the modules below it that a name runs through, as far as there are any."""
    files: list[Path] = []
    for part in name:
        folder /= part
        files += [file for file in (folder / "__init__.py", folder.with_name(f"{part}.py")) if file.is_file()][:1]
    return files
