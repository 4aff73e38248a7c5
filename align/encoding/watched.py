"""Texts that a template can write, strip and ask something, and that tell of it; nothing else can be done with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

Steps = tuple[tuple[str, str | None], ...]
"""Strips that were applied to a text, each with its characters."""
OPEN, CLOSE = "\ufdd2", "\ufdd3"
_MARK = re.compile(f"{OPEN}(\\d+){CLOSE}")
METHODS = ("strip", "lstrip", "rstrip", "startswith", "endswith")
"""What can be called on a watched text."""


class Unwatched(Exception):
    """A template did something with a text that cannot be repeated with another."""


class TextPlace(NamedTuple):
    """Where a text comes from: the turn it is the content of, and how it was stripped."""

    turn: int
    steps: Steps

    def of(self, contents: Sequence[str]) -> str:
        """Return the text in another dialogue."""
        text = contents[self.turn]
        for name, characters in self.steps:
            text = getattr(text, name)(characters)
        return text


class TextQuestion(NamedTuple):
    """What a template asked of a text, and the answer."""

    place: TextPlace
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
        self.contents, self.places, self.questions = contents, list[TextPlace](), list[TextQuestion]()

    def watched(self, place: TextPlace) -> Watched:
        """Return a stand-in for a text."""
        self.places.append(place)
        text = Content(f"{OPEN}{len(self.places) - 1}{CLOSE}")
        text._trace, text._place = self, place
        return text

    def ask(self, place: TextPlace, kind: str, argument: Any = None) -> bool:
        """Note a question and return the answer."""
        if isinstance(argument, Watched):
            raise Unwatched("a text is compared with another")
        found = answer(place.of(self.contents), kind, argument)
        self.questions.append(TextQuestion(place, kind, argument, found))
        return found

    def pieces(self, text: str) -> list[str | TextPlace]:
        """Return a rendered text as what is fixed and what comes from the dialogue."""
        parts = _MARK.split(text)
        return [self.places[int(part)] if n % 2 else part for n, part in enumerate(parts)]


def _refuse(*_: Any) -> Any:
    raise Unwatched("a text is taken apart")


class Watched(str):
    """A text with a watched one in it: it can be joined to others and written."""

    _trace: Trace
    _place: TextPlace

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

    def strip(self, characters: str | None = None) -> Watched:
        """Strip both ends."""
        return self._stripped("strip", characters)

    def lstrip(self, characters: str | None = None) -> Watched:
        """Strip the beginning."""
        return self._stripped("lstrip", characters)

    def rstrip(self, characters: str | None = None) -> Watched:
        """Strip the end."""
        return self._stripped("rstrip", characters)

    def _stripped(self, name: str, characters: str | None) -> Watched:
        if isinstance(characters, Watched):
            raise Unwatched("a text decides what is stripped")
        steps = (*self._place.steps, (name, characters))
        return self._trace.watched(self._place._replace(steps=steps))
