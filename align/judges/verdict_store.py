"""Where the replies of a judge are kept: paid for once, committed before they are parsed, counted against a budget."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from align.durable import DurableFile
from align.errors import StoreError

SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS judge_schema (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS judge_reply (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, body TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (key, attempt));
CREATE TABLE IF NOT EXISTS judge_request (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, at REAL NOT NULL, reserved INTEGER NOT NULL,
    input_tokens INTEGER, output_tokens INTEGER, outcome TEXT);
CREATE TABLE IF NOT EXISTS judge_spent (
    requests INTEGER NOT NULL, tokens INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS judge_reserved AFTER INSERT ON judge_request BEGIN
    UPDATE judge_spent SET requests = requests + 1, tokens = tokens + new.reserved;
END;
CREATE TRIGGER IF NOT EXISTS judge_billed AFTER UPDATE OF input_tokens, output_tokens ON judge_request BEGIN
    UPDATE judge_spent SET
        tokens = tokens + coalesce(new.input_tokens + new.output_tokens, new.reserved)
                        - coalesce(old.input_tokens + old.output_tokens, old.reserved),
        input_tokens = input_tokens + coalesce(new.input_tokens, 0) - coalesce(old.input_tokens, 0),
        output_tokens = output_tokens + coalesce(new.output_tokens, 0) - coalesce(old.output_tokens, 0);
END;
"""
_SUMS = """
INSERT INTO judge_spent SELECT count(*), total(coalesce(input_tokens + output_tokens, reserved)), total(input_tokens),
    total(output_tokens) FROM judge_request
"""


class Spent(NamedTuple):
    """What all requests of a store have cost, those of earlier runs included."""

    requests: int
    tokens: int
    """Used, or reserved where no answer has told how many were used."""
    input_tokens: int
    output_tokens: int


class StoredReply(NamedTuple):
    """A raw reply to a question, with the tokens in and out where they are known."""

    key: str
    body: str
    usage: tuple[int, int] | None


class VerdictStore(DurableFile):
    """Raw replies by key, and every request that was sent. Other tables of the file are left alone."""

    kind = "judge store"
    advice = "use a whole SQLite file on a local disk that no other program holds locked"
    tables = _TABLES

    def __init__(self, path: Path) -> None:
        """Open the store, or make it. Raises StoreError for a file that is damaged, locked or of another version."""
        super().__init__(path)
        with self.transaction() as db:
            found = db.execute("SELECT max(version) FROM judge_schema").fetchone()[0]
            if found is None:
                db.execute("INSERT INTO judge_schema VALUES (?)", (SCHEMA,))
            if not db.execute("SELECT * FROM judge_spent").fetchone():  # of a store that kept no sums yet, too
                db.execute(_SUMS)
        if found is not None and found != SCHEMA:
            self.close()
            raise StoreError(f"{path}: judge tables of version {found}, expected {SCHEMA}: name another store")

    def replies(self, key: str) -> list[str]:
        """Return the raw replies to a question, oldest first."""
        return [row[0] for row in self.read("SELECT body FROM judge_reply WHERE key = ? ORDER BY attempt", key)]

    def reserve(self, key: str, tokens: int, *, max_requests: int | None, max_tokens: int | None) -> int | None:
        """Note a request before it is sent and return its number, or None where a budget has no room for it."""
        with self.transaction() as db:
            spent = self.spent()
            if max_requests is not None and spent.requests + 1 > max_requests:
                return None
            if max_tokens is not None and spent.tokens + tokens > max_tokens:
                return None
            row = (key, time.time(), tokens)
            return db.execute("INSERT INTO judge_request (key, at, reserved) VALUES (?, ?, ?)", row).lastrowid

    def failed(self, request: int, outcome: str) -> None:
        """Note how a request without an answer ended; what it reserved stays spent, as it may have been billed."""
        with self.transaction() as db:
            db.execute("UPDATE judge_request SET outcome = ? WHERE id = ?", (outcome, request))

    def answered(self, request: int | None, key: str, body: str, usage: tuple[int, int] | None) -> None:
        """Commit a raw reply, with the tokens in and out that it says it used."""
        with self.transaction() as db:
            _answered(db, request, StoredReply(key, body, usage))

    def keep(self, answers: Sequence[StoredReply]) -> None:
        """Commit the replies of a model that costs nothing, together: all of them or none."""
        with self.transaction() as db:
            for answer in answers:
                row = (answer.key, time.time(), 0)
                sent = db.execute("INSERT INTO judge_request (key, at, reserved) VALUES (?, ?, ?)", row).lastrowid
                _answered(db, sent, answer)

    def spent(self) -> Spent:
        """Return what all requests have cost; the file keeps the sums, so that this takes no longer in a large one."""
        return Spent(*self.read("SELECT requests, tokens, input_tokens, output_tokens FROM judge_spent")[0])


def _answered(db: sqlite3.Connection, request: int | None, answer: StoredReply) -> None:
    attempt = db.execute("SELECT count(*) FROM judge_reply WHERE key = ?", (answer.key,)).fetchone()[0]
    db.execute("INSERT INTO judge_reply VALUES (?, ?, ?, ?)", (answer.key, attempt, answer.body, time.time()))
    db.execute(
        "UPDATE judge_request SET outcome = 'reply', input_tokens = ?, output_tokens = ? WHERE id = ?",
        (*(answer.usage or (None, None)), request),
    )
