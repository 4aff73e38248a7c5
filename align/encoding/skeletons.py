"""What a template writes around the texts of a dialogue, kept from one dialogue to the next of the same shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateError

from align.encoding.metering import Overrun
from align.encoding.tracing import WatchingSandbox
from align.encoding.watched import CLOSE, OPEN, TextPlace, TextQuestion, Trace, Unwatched
from align.records import Message

MAX_SHAPES = 1000
MAX_TRIES = 8
"""Dialogues of one shape that are watched."""
MAX_CHARACTERS = 100_000
"""Longer dialogues are rendered, within the limits on what a template may write."""


class Shape(NamedTuple):
    """What dialogues have in common that differ in their texts only."""

    roles: tuple[str, ...]
    prompt: bool
    """Whether the generation prompt is wanted."""

    @classmethod
    def of(cls, messages: Sequence[Message], prompt: bool) -> Shape | None:
        """Return the shape of a dialogue, None for one that holds more than texts, or very long ones."""
        roles, contents, *more, _ = zip(*messages, strict=True) if messages else ((), (), ())
        if any(map(any, more)) or sum(map(len, contents)) > MAX_CHARACTERS:
            return None
        return cls(roles, prompt)


class Skeleton(NamedTuple):
    """What is written where the same questions have the same answers."""

    questions: Sequence[TextQuestion]
    pieces: Sequence[Any]
    """What is fixed, and every second of them a Place, whose text comes from the dialogue."""

    def fill(self, contents: Sequence[str]) -> str | None:
        """Return the text of a dialogue, None where a question has another answer."""
        if self.questions and not all(question.holds(contents) for question in self.questions):
            return None
        parts = list(self.pieces)
        parts[1::2] = [place.of(contents) if place.steps else contents[place.turn] for place in parts[1::2]]
        return "".join(parts)


class Skeletons:
    """Renders dialogues of plain turns as others of their shape were rendered.

    A template is watched on the first dialogues of a shape, its result compared with what the template writes; only
    what it does with every text alike is repeated.
    """

    def __init__(self, source: str, now: datetime) -> None:
        self._source, self._now = source, now
        self._found: dict[Shape, list[Skeleton]] = {}
        self._tries: Counter[Shape] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is compiled, which does not travel between processes."""
        kept = {k: v for k, v in vars(self).items() if k not in ("_sandbox", "_compiled")}
        return {**kept, "_found": {}, "_tries": Counter()}

    def recall(self, shape: Shape, messages: Sequence[Message]) -> str | None:
        """Return the text of a dialogue of a shape that is known."""
        contents = [m.content for m in messages]
        for skeleton in self._found.get(shape, ()):
            if (text := skeleton.fill(contents)) is not None:
                return text
        return None

    def learn(self, shape: Shape, messages: Sequence[Message], text: str, given: Mapping[str, Any]) -> None:
        """Watch how a dialogue is rendered whose text is known; `given` is what the template reads beside it."""
        if self._sandbox is None or len(self._tries) > MAX_SHAPES or self._tries[shape] >= MAX_TRIES:
            return
        self._tries[shape] += 1
        trace = Trace([m.content for m in messages])
        watched = [{"role": role, "content": trace.watched(TextPlace(i, ()))} for i, role in enumerate(shape.roles)]
        try:
            self._sandbox.start()
            pieces = trace.pieces(self._compiled.render(messages=watched, **given))
        except (Unwatched, Overrun, TemplateError, ArithmeticError, ValueError, TypeError, LookupError, AttributeError):
            return  # a template that does more with this text: it is rendered, and so is the next of its shape
        skeleton = Skeleton(tuple(dict.fromkeys(trace.questions)), pieces)
        if skeleton.fill(trace.contents) == text:
            self._found.setdefault(shape, []).append(skeleton)

    @cached_property
    def _sandbox(self) -> WatchingSandbox | None:
        sandbox = WatchingSandbox(self._now)
        return None if OPEN in self._source or CLOSE in self._source or sandbox.hides(self._source) else sandbox

    @cached_property
    def _compiled(self) -> Any:
        assert self._sandbox is not None
        return self._sandbox.metered(self._source)
