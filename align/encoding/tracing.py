"""A template watched while it runs: what it does with the texts of a dialogue, and where it cannot be followed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.runtime import Macro

from align.encoding.jinja import TemplateSandbox, _Namespace
from align.encoding.metering import concat
from align.encoding.watched import METHODS, Unwatched, Watched

_KEEPING = frozenset({"trim", "string", "default", "d"})
"""Filters that a watched text may go through; other texts and lists may go through those that follow."""
_STRUCTURAL = _KEEPING | {"length", "count", "first", "last", "list", "reverse", "selectattr", "rejectattr"}
_ASKING = frozenset({"defined", "undefined", "none", "string", "mapping", "number", "boolean", "true", "false"})
"""Tests whose answer does not depend on what a text says."""


class WatchingSandbox(TemplateSandbox):
    """Runs a template on watched texts, and stops where it does anything with them that is not noted."""

    def __init__(self, now: datetime) -> None:
        super().__init__(now)
        self.concat = _concat
        self.filters = {name: _watching(name, filter_, _STRUCTURAL) for name, filter_ in self.filters.items()}
        tests: dict[str, Any] = self.tests  # type: ignore[has-type]
        self.tests = {name: _watching(name, test, _ASKING) for name, test in tests.items()}

    def hides(self, source: str) -> bool:
        """Tell whether a template looks for a text in another, where nothing tells the watched one of it."""
        return any(
            operand.op in ("in", "notin")
            and not isinstance(compared.expr, nodes.Const)
            and not isinstance(operand.expr, nodes.List | nodes.Tuple)
            for compared in self.parse(source).find_all(nodes.Compare)
            for operand in compared.ops
        )

    def join(self, *parts: Any) -> str:
        """Return the text of `a ~ b`."""
        return _concat(map(str, parts))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what does nothing with a watched text, or what is noted."""
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, Watched) and name not in METHODS:
            raise Unwatched(f"a text is put through {name}")
        own = isinstance(__obj, Macro) or __obj is _Namespace or owner is __self
        if not own and _holds((args, kwargs)):
            raise Unwatched("a text is passed on")
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Join texts; nothing else is done with a watched one."""
        if operator != "+" and _holds((left, right)):
            raise Unwatched(f"a text is put through {operator}")
        return super().call_binop(context, operator, left, right)


def _concat(parts: Iterable[str]) -> str:
    found = list(parts)
    text = concat(found)
    return Watched(text) if any(isinstance(part, Watched) for part in found) else text


def _watching(name: str, function: Any, structural: frozenset[str]) -> Any:
    """Return a filter or test that watched texts may go through only where nothing depends on what they say."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        direct = any(isinstance(value, Watched) for value in (*args, *kwargs.values()))
        allowed = name in (structural if not direct or structural is _ASKING else _KEEPING)
        if not allowed and _holds((args, kwargs)):
            raise Unwatched(f"a text is put through {name}")
        return function(*args, **kwargs)

    return call


def _holds(value: Any) -> bool:
    """Tell whether a watched text is in a value."""
    if isinstance(value, Mapping):
        return any(map(_holds, value.values()))
    if isinstance(value, str):
        return isinstance(value, Watched)
    if isinstance(value, list | tuple | set):
        return any(map(_holds, value))
    return isinstance(value, Iterator)  # whatever is in it
