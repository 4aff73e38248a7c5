"""What raters are asked about: a prompt with two or more responses, whose names they never see."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Literal, NamedTuple

Task = Literal["pairs", "best_worst"]
QUESTIONS: dict[str, str] = {
    "pairs": "Which response is better?",
    "best_worst": "Which response is best, and which is worst?",
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class AnnotationItem(NamedTuple):
    """One question to a rater."""

    id: str
    """PromptSamples at random: it tells nothing about the content and cannot be guessed."""
    prompt: tuple[dict[str, str], ...]
    """Turns, each with role and content; the last is the user's."""
    responses: tuple[str, ...]
    names: tuple[str, ...]
    """Where each response comes from."""

    @classmethod
    def new(cls, prompt: Sequence[dict[str, str]], responses: Sequence[str], names: Sequence[str]) -> AnnotationItem:
        """Return an item with an id of its own."""
        return cls(secrets.token_urlsafe(12), tuple(prompt), tuple(responses), tuple(names))

    @property
    def asked(self) -> bool:
        """Return whether there is something to decide: responses that are all the same text are a tie unseen."""
        return len(set(self.responses)) > 1


class Choice(NamedTuple):
    """A judgment, as indices of responses; None twice is a tie. Of two responses the other one is the worst."""

    best: int | None
    worst: int | None

    def check(self, count: int) -> None:
        """Raise ValueError unless this is a possible judgment of `count` responses."""
        if self.best is None and self.worst is None:
            return
        places = (self.best, self.worst)
        if not all(type(place) is int and 0 <= place < count for place in places) or self.best == self.worst:
            raise ValueError(
                f"best and worst must be two different responses of {count}, or both null, got {places!r:.60}"
            )

    def through(self, order: Sequence[int]) -> Choice:
        """Return the judgment of what `order` shows at these places."""
        best, worst = (None if place is None else order[place] for place in self)
        return Choice(best, worst)


def fingerprint(items: Sequence[AnnotationItem]) -> str:
    """Return a hash of everything in the items but their ids."""
    text = json.dumps([item[1:] for item in items])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
