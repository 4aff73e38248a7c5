"""Where judgments are kept: items, raters, the order each rater saw, and every submission."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from align.annotation.database import ITEM, JUDGED, PROGRESS, SENT, SHOWN, Database
from align.annotation.form import Field, Remarks, as_text, by_response, checked, from_text
from align.annotation.items import AnnotationItem, Choice, Task, fingerprint
from align.annotation.labellers import Labellers
from align.errors import ConfigError, shorten


class Rater(NamedTuple):
    """Someone who judges."""

    id: str
    """Stands in the address of the rater's page."""
    name: str


class Shown(NamedTuple):
    """An item as one rater sees it."""

    item: AnnotationItem
    order: tuple[int, ...]
    """The index of the response at each place."""
    key: str | None
    """Of the rater's judgment, None before there is one."""
    choice: Choice | None
    """By index of the item's responses, as in `RaterJudgment`."""
    remarks: Remarks
    """Likewise."""


class RaterJudgment(NamedTuple):
    """One rater's standing judgment of one item."""

    item: str
    rater: str
    """The rater's name."""
    choice: Choice
    order: tuple[int, ...]
    remarks: Remarks = MappingProxyType({})
    """What was said of each response beside the choice, by field."""


class Conflict(Exception):
    """A submission that would overwrite a judgment its sender has not seen."""


class AnnotationStore:
    """What raters were shown and what they said. Acknowledged means committed."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the store, or make it. Raises StoreError for a file that cannot be used."""
        if not create and not Path(path).exists():
            raise ConfigError(f"{path}: no such store: make it with `align annotate serve --completions ...`")
        self.path = Path(path)
        self._db = Database(self.path)
        self.labellers = Labellers(self._db)
        with self._db.transaction() as db:
            usual = {"secret": secrets.token_hex(32), "fields": as_text(()), "labeller": as_text(())}
            db.executemany("INSERT OR IGNORE INTO setting VALUES (?, ?)", usual.items())

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def begin(
        self,
        items: Sequence[AnnotationItem],
        task: Task,
        question: str,
        fields: Sequence[Field] = (),
        labeller: Sequence[Field] = (),
    ) -> None:
        """Take the items in, or check that they are those the store holds. Raises ConfigError for others."""
        facts = {"items": fingerprint(items), "task": task, "question": question, "fields": as_text(fields)}
        facts["labeller"] = as_text(labeller)
        with self._db.transaction() as db:
            if not db.execute("SELECT count(*) FROM item").fetchone()[0]:
                db.executemany("INSERT OR REPLACE INTO setting VALUES (?, ?)", facts.items())
                rows = [(i.id, n, i.asked, *map(json.dumps, i[1:])) for n, i in enumerate(items)]
                db.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?)", rows)
        for name, value in facts.items():
            if (known := self.setting(name)) != value:
                found = f"{shorten(known)!r}, not {shorten(value)!r}"
                raise ConfigError(f"{self.path} was begun with other {name} ({found}): name another --store")

    def setting(self, name: str) -> str:
        """Return the task, the question, or the secret that links follow from."""
        rows = self._db.read("SELECT value FROM setting WHERE name = ?", name)
        if not rows:
            raise ConfigError(f"{self.path} holds no items yet: give --completions")
        return str(rows[0][0])

    def fields(self) -> tuple[Field, ...]:
        """Return what is asked of every response beside the choice."""
        return from_text(self.setting("fields"))

    def renew_links(self) -> None:
        """Draw a new secret: links and sessions from before end."""
        with self._db.transaction() as db:
            db.execute("UPDATE setting SET value = ? WHERE name = 'secret'", (secrets.token_hex(32),))

    def add_raters(self, names: Sequence[str]) -> None:
        """Add raters that are not there yet."""
        with self._db.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO rater VALUES (?, ?)", [(secrets.token_hex(8), n) for n in names])

    def raters(self) -> list[Rater]:
        """Return the raters, oldest first."""
        return [Rater(*row) for row in self._db.read("SELECT id, name FROM rater ORDER BY rowid")]

    def items(self) -> list[AnnotationItem]:
        """Return all items in the order in which they are asked, those that are not asked included."""
        return [_item(row) for row in self._db.read(f"{ITEM} ORDER BY position")]

    def progress(self, rater: str) -> list[tuple[str, bool]]:
        """Return the id of every item that is asked, and whether this rater has judged it."""
        return [(item, bool(judged)) for item, judged in self._db.read(PROGRESS, rater)]

    def show(self, rater: str, item: str) -> Shown | None:
        """Return an item in this rater's order, drawn at the first look and kept; None for an id that is not asked."""
        with self._db.transaction() as db:
            row = db.execute(f"{ITEM} WHERE id = ? AND asked", (item,)).fetchone()
            if row is None:
                return None
            found = _item(row)
            order = list(range(len(found.responses)))
            secrets.SystemRandom().shuffle(order)
            db.execute("INSERT OR IGNORE INTO showing VALUES (?, ?, ?, ?)", (item, rater, str(order), time.time()))
            return _shown(db, found, rater)

    def submit(
        self, rater: str, item: str, choice: Choice, *, key: str, replaces: str | None, remarks: Remarks | None = None
    ) -> None:
        """Keep a judgment of what the rater saw; the same key again changes nothing.

        Args:
            rater: Id of the rater.
            item: Id of the item.
            choice: By place in the rater's order.
            key: Made by the sender, one for each decision.
            replaces: Key of the judgment the sender saw, None where it saw none.
            remarks: By field, of each place in the rater's order.

        Raises ValueError for a judgment that cannot be, Conflict where another one has come before.
        """
        with self._db.transaction() as db:
            row = db.execute(f"{ITEM} WHERE id = ? AND asked", (item,)).fetchone()
            shown = row and _shown(db, _item(row), rater)
            if not shown:
                raise ValueError("this item has not been shown to this rater")
            choice.check(len(shown.order))
            said = by_response(
                checked(self.fields(), {} if remarks is None else remarks, len(shown.order)), shown.order
            )
            meant = (item, rater, *choice.through(shown.order), json.dumps(said) if said else None)
            known = db.execute(SENT, (key,)).fetchone()
            if known == meant:
                return
            if known or replaces != shown.key:
                raise Conflict
            db.execute(
                "INSERT INTO submission VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key, *meant[:2], replaces, time.time(), *meant[2:4]),
            )
            if said:
                db.execute("INSERT INTO remark VALUES (?, ?)", (key, meant[4]))
            db.execute("INSERT OR REPLACE INTO judgment VALUES (?, ?, ?)", (item, rater, key))

    def judgments(self) -> list[RaterJudgment]:
        """Return the standing judgments, by item and rater."""
        rows = self._db.read(JUDGED)
        return [
            RaterJudgment(i, r, Choice(b, w), tuple(json.loads(o)), json.loads(s or "{}")) for i, r, b, w, o, s in rows
        ]


def _shown(db: sqlite3.Connection, item: AnnotationItem, rater: str) -> Shown | None:
    row = db.execute(SHOWN, (item.id, rater)).fetchone()
    if row is None:
        return None
    choice = Choice(*row[2:4]) if row[1] else None
    return Shown(item, tuple(json.loads(row[0])), row[1], choice, json.loads(row[4] or "{}"))


def _item(row: Sequence[str]) -> AnnotationItem:
    prompt, responses, names = map(json.loads, row[1:])
    return AnnotationItem(row[0], tuple(prompt), tuple(responses), tuple(names))
