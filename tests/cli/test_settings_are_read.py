"""Every setting that a config may give to a class of ours is read: found in the source, class by class."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import align
import align.callbacks
from tests.cli.pluggable import classes_in, concrete, is_ours, pluggable_types, signature_hints, subclasses

ROOTS = [Path(package.__file__ or "").parent for package in (align, align.callbacks)]
CHECKS = ("__post_init__",)
"""Methods whose reading alone gives a value no effect."""


def classes() -> list[type]:
    """Return all that a config may name or fill in: classes of every type, and what stands in their signatures."""
    todo, found = [cls for kind in pluggable_types() for cls in concrete(kind)], dict[type, None]()
    while todo:
        cls = todo.pop()
        if cls not in found:
            found[cls] = None
            hints = [kind for hint in signature_hints(cls).values() for kind in classes_in(hint)]
            todo += [inner for kind in hints if is_ours(kind) for inner in concrete(kind)]
    return sorted(found, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


def settings_of(cls: type) -> list[str]:
    """Return what a class takes itself."""
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls) if field.init]
    own = vars(cls).get("__init__")
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return (
        [p.name for p in inspect.signature(own).parameters.values() if p.name != "self" and p.kind not in kinds]
        if own
        else []
    )


class Reads(ast.NodeVisitor):
    """What a piece of source reads: names, attributes with what they are read from; a check that raises reads nothing."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()

    @classmethod
    def of(cls, node: ast.AST) -> Reads:
        found = cls()
        found.visit(node)
        return found

    def visit_If(self, node: ast.If) -> None:
        if not all(isinstance(step, ast.Raise) for step in node.body) or node.orelse:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name not in CHECKS:
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not _kept(node):
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            self.attributes.add((_last(node.value), node.attr))
        self.generic_visit(node)


def _kept(node: ast.Assign) -> list[tuple[str, str]]:
    """Return the names of `self.x, self.y = x, y` with those of the attributes; nothing for any other assignment."""
    target, value = node.targets[0], node.value
    pairs = (
        list(zip(target.elts, value.elts, strict=False))
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
        else [(target, value)]
    )
    if not all(isinstance(t, ast.Attribute) and isinstance(v, ast.Name) for t, v in pairs):
        return []
    return [(v.id, t.attr) for t, v in pairs if isinstance(t, ast.Attribute) and isinstance(v, ast.Name)]


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@cache
def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for root in ROOTS for path in sorted(root.rglob("*.py"))]


@cache
def everywhere() -> set[tuple[str, str]]:
    """Return all attributes that are read in the packages, with the name of what they are read from."""
    return set().union(*(Reads.of(tree).attributes for tree in trees()))


@cache
def holders() -> list[tuple[str, str]]:
    """Return every annotated name of the packages with its annotation."""
    found = []
    for node in (node for tree in trees() for node in ast.walk(tree)):
        if isinstance(node, ast.arg) and node.annotation is not None:
            found.append((node.arg, ast.unparse(node.annotation)))
        elif isinstance(node, ast.AnnAssign):
            found.append((_last(node.target), ast.unparse(node.annotation)))
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            found.append((node.name, ast.unparse(node.returns)))
    return found


@cache
def aliases() -> set[tuple[str, str]]:
    """Return every other name of the packages for what a name holds: `a = self.b`, and `for a in self.b`."""
    found = set()
    for node in (node for tree in trees() for node in ast.walk(tree)):
        if isinstance(node, ast.For | ast.comprehension):
            found |= set(_pairs(node.target, node.iter))
        elif isinstance(node, ast.Assign):
            found |= set(_pairs(node.targets[0], node.value))
    return found


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    zipped = isinstance(value, ast.Call) and _last(value.func) in ("zip", "enumerate")
    values = value.args if isinstance(value, ast.Call) and zipped else getattr(value, "elts", [value])
    for one, other in zip(getattr(target, "elts", [target]), values, strict=False):
        if _last(one) and _last(other):
            yield _last(one), _last(other)


@cache
def body(cls: type) -> ast.ClassDef:
    tree = ast.parse(Path(inspect.getfile(cls)).read_text())
    return next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__)


def family(cls: type) -> list[type]:
    return [kind for kind in (*cls.__mro__, *subclasses(cls)) if kind is cls or is_ours(kind)]


def is_read(cls: type, name: str) -> bool:
    """Return whether an attribute is read by the class itself, or from something that is declared to hold one."""
    if any(("self", name) in Reads.of(body(kind)).attributes for kind in family(cls)):
        return True
    word = re.compile(rf"\b({'|'.join(kind.__name__ for kind in family(cls))})\b")
    places = {place for place, kind in holders() if word.search(kind)}
    places |= {alias for alias, place in aliases() if place in places}
    return any((place, name) in everywhere() for place in places)


def unread(cls: type) -> Iterator[str]:
    """Yield the settings of a class that nothing reads but their own checks."""
    if dataclasses.is_dataclass(cls):
        yield from (name for name in settings_of(cls) if not is_read(cls, name))
        return
    start = next((n for n in body(cls).body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if start is None:
        return
    used = Reads.of(start).names
    kept = dict(pair for node in ast.walk(start) if isinstance(node, ast.Assign) for pair in _kept(node))
    for name in settings_of(cls):
        if name not in used and not (name in kept and is_read(cls, kept[name])):
            yield name


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_every_setting_is_read(cls: type) -> None:
    assert list(unread(cls)) == []


class Ignoring:
    """Reads one of its settings; keeps one, checks another, and never looks at the last."""

    def __init__(self, read: int, kept: int, checked: int, unseen: int) -> None:
        if checked < 0:
            raise ValueError(checked)
        self._ignoring_kept, self._ignoring_read = kept, read

    def __call__(self) -> int:
        return self._ignoring_read


def test_one_that_is_not_read_is_found() -> None:
    assert list(unread(Ignoring)) == ["kept", "checked", "unseen"]
