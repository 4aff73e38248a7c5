"""A template watched while it runs: which texts of a dialogue it writes where, and what it asked of them on the way."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import nodes
from jinja2.runtime import Macro

from align.encoding.jinja import Sandbox, _Namespace
from align.encoding.metering import concat

Steps = tuple[tuple[str, str | None], ...]
"""Strips that were applied to a text, each with its characters."""
OPEN, CLOSE = "\ufdd2", "\ufdd3"
_MARK = re.compile(f"{OPEN}(\\d+){CLOSE}")
_KEEPING = frozenset({"trim", "string", "default", "d"})
"""Filters that a watched text may go through; other texts and lists may go through those that follow."""
_STRUCTURAL = _KEEPING | {"length", "count", "first", "last", "list", "reverse", "selectattr", "rejectattr"}
_ASKING = frozenset({"defined", "undefined", "none", "string", "mapping", "number", "boolean", "true", "false"})
"""Tests whose answer does not depend on what a text says."""
_STRIPS, _QUESTIONS = ("strip", "lstrip", "rstrip"), ("startswith", "endswith")


class Unwatched(Exception):
    """A template did something with a text that cannot be repeated with another."""


class Place(NamedTuple):
    """Where a text comes from: the turn it is the content of, and how it was stripped."""

    turn: int
    steps: Steps

    def of(self, contents: Sequence[str]) -> str:
        """Return the text in another dialogue."""
        text = contents[self.turn]
        for name, characters in self.steps:
            text = getattr(text, name)(characters)
        return text


class Question(NamedTuple):
    """What a template asked of a text, and the answer."""

    place: Place
    kind: str
    argument: Any
    answer: bool

    def holds(self, contents: Sequence[str]) -> bool:
        """Tell whether the answer is the same in another dialogue."""
        return answer(self.place.of(contents), self.kind, self.argument) == self.answer


def answer(text: str, kind: str, argument: Any) -> bool:
    """Return what a text answers."""
    if kind == "contains":
        return argument in text
    if kind == "equals":
        return bool(text == argument)
    return bool(text) if kind == "filled" else bool(getattr(text, kind)(argument))


class Trace:
    """The texts of one dialogue, and what is asked of them."""

    def __init__(self, contents: Sequence[str]) -> None:
        self.contents, self.places, self.questions = contents, list[Place](), list[Question]()

    def watched(self, place: Place) -> Watched:
        """Return a stand-in for a text."""
        self.places.append(place)
        text = Content(f"{OPEN}{len(self.places) - 1}{CLOSE}")
        text._trace, text._place = self, place
        return text

    def ask(self, place: Place, kind: str, argument: Any = None) -> bool:
        """Note a question and return the answer."""
        if isinstance(argument, Watched):
            raise Unwatched("a text is compared with another")
        found = answer(place.of(self.contents), kind, argument)
        self.questions.append(Question(place, kind, argument, found))
        return found

    def pieces(self, text: str) -> list[str | Place]:
        """Return a rendered text as what is fixed and what comes from the dialogue."""
        parts = _MARK.split(text)
        return [self.places[int(part)] if n % 2 else part for n, part in enumerate(parts)]


def _refuse(*_: Any) -> Any:
    raise Unwatched("a text is taken apart")


class Watched(str):
    """A text with a watched one in it: it can be joined to others and written."""

    __slots__ = ("_place", "_trace")

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> Watched:
        return Watched(str.__add__(self, other))

    def __radd__(self, other: str) -> Watched:
        return Watched(str.__add__(other, self))

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __getitem__ = _refuse
    __iter__ = __hash__ = __repr__ = __format__ = __mod__ = __rmod__ = __mul__ = __rmul__ = _refuse
    strip = lstrip = rstrip = startswith = endswith = _refuse


class Content(Watched):
    """The content of a turn, or what stripping leaves of it."""

    __slots__ = ()
    __hash__ = _refuse

    def __bool__(self) -> bool:
        return self._trace.ask(self._place, "filled")

    def __contains__(self, part: object) -> bool:
        return self._trace.ask(self._place, "contains", part)

    def __eq__(self, other: object) -> bool:
        return self._trace.ask(self._place, "equals", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def startswith(self, start: Any) -> bool:  # type: ignore[override]
        """Ask for the beginning."""
        return self._trace.ask(self._place, "startswith", start)

    def endswith(self, end: Any) -> bool:  # type: ignore[override]
        """Ask for the end."""
        return self._trace.ask(self._place, "endswith", end)

    def strip(self, characters: str | None = None) -> Watched:  # type: ignore[override]
        """Strip both ends."""
        return self._stripped("strip", characters)

    def lstrip(self, characters: str | None = None) -> Watched:  # type: ignore[override]
        """Strip the beginning."""
        return self._stripped("lstrip", characters)

    def rstrip(self, characters: str | None = None) -> Watched:  # type: ignore[override]
        """Strip the end."""
        return self._stripped("rstrip", characters)

    def _stripped(self, name: str, characters: str | None) -> Watched:
        if isinstance(characters, Watched):
            raise Unwatched("a text decides what is stripped")
        place: Place = self._place
        return self._trace.watched(place._replace(steps=(*place.steps, (name, characters))))


class WatchingSandbox(Sandbox):
    """Runs a template on watched texts, and stops where it does anything with them that is not noted."""

    def __init__(self, now: datetime) -> None:
        super().__init__(now)
        self.concat = _concat
        self.filters = {name: _watching(name, filter_, _STRUCTURAL) for name, filter_ in self.filters.items()}
        self.tests = {name: _watching(name, test, _ASKING) for name, test in self.tests.items()}

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
        if isinstance(owner, Watched) and name not in (*_STRIPS, *_QUESTIONS):
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
