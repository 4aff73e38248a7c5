"""Who rates: what every rater is asked once about themselves, where a study asks, and what they answered."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from align.annotation.database import Database
from align.annotation.form import Field, check_values, from_text, required_of
from align.errors import ConfigError, shorten

LONGEST = 200
"""Letters of a free answer."""
CHOICES = 60
"""Values of a question; more are better asked for as free text."""
Answers = Mapping[str, str | None]
"""By the name of the question, null where it was left open."""


class AnsweredOtherwise(Exception):
    """Answers of a rater who has given others before."""


def question_of(place: str, row: Any) -> Field:
    """Return a question about the rater as a file describes it; one without values takes free text.

    Raises ConfigError naming its place.
    """
    if not isinstance(row, Mapping) or set(row) - {"name", "question", "values", "required"} or "name" not in row:
        raise ConfigError(f"{place}: expected name, question, values and required, got {shorten(row, 80)}")
    name, question = row["name"], row.get("question", row["name"])
    if not all(isinstance(text, str) and text.strip() for text in (name, question)):
        raise ConfigError(f"{place}: name and question must be texts, got {shorten(row, 80)}")
    if "values" in row:
        check_values(place, row["values"], CHOICES)
    return Field(name, question, tuple(row.get("values", ())), required_of(place, row, usual=False))


def answered(questions: Sequence[Field], said: Any) -> dict[str, str | None]:
    """Return answers in the order of the questions. Raises ValueError for what cannot be one."""
    if not isinstance(said, Mapping) or set(said) - {question.name for question in questions}:
        raise ValueError(f"answers must be by {', '.join(question.name for question in questions) or 'nothing'}")
    found = {}
    for question in questions:
        value = said.get(question.name)
        if isinstance(value, str) and not question.values:
            value = value.strip() or None
        if value is not None and not _fits(question, value):
            free = f"a text of at most {LONGEST} printable characters"
            raise ValueError(f"{question.name} must be {', '.join(map(str, question.values)) or free}, or null")
        if question.required and value is None:
            raise ValueError(f"{question.name} must be answered: {question.question}")
        found[question.name] = value
    return found


def _fits(question: Field, value: Any) -> bool:
    if question.values:
        return isinstance(value, str) and value in question.values
    return isinstance(value, str) and len(value) <= LONGEST and value.isprintable()


class Labellers:
    """What the raters of a store are asked about themselves, and answered."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def questions(self) -> tuple[Field, ...]:
        """Return what every rater is asked once; nothing unless the store was begun with questions."""
        return from_text(self._db.read("SELECT value FROM setting WHERE name = 'labeller'")[0][0])

    def of(self, rater: str) -> Answers | None:
        """Return what a rater answered, None before that."""
        rows = self._db.read("SELECT said FROM labeller WHERE rater = ?", rater)
        return json.loads(rows[0][0]) if rows else None

    def asked(self, rater: str) -> bool:
        """Return whether a rater has questions to answer before the first judgment."""
        return bool(self.questions()) and self.of(rater) is None

    def answer(self, rater: str, said: Any) -> None:
        """Keep a rater's answers; the same again change nothing.

        Raises ValueError for answers that cannot be, AnsweredOtherwise where there are others.
        """
        text = json.dumps(answered(self.questions(), said))
        with self._db.transaction() as db:
            db.execute("INSERT OR IGNORE INTO labeller VALUES (?, ?, ?)", (rater, text, time.time()))
            if db.execute("SELECT said FROM labeller WHERE rater = ?", (rater,)).fetchone()[0] != text:
                raise AnsweredOtherwise

    def by_name(self) -> dict[str, Answers]:
        """Return the answers of the raters that have any."""
        rows = self._db.read("SELECT name, said FROM labeller JOIN rater ON rater.id = rater ORDER BY rater.rowid")
        return {name: json.loads(said) for name, said in rows}
