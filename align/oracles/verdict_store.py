"""Where the replies of a judge are kept: paid for once, committed before they are parsed, counted against a budget."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from align.errors import StoreError

SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS judge_schema (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS judge_reply (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, body TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (key, attempt));
CREATE TABLE IF NOT EXISTS judge_request (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, at REAL NOT NULL, reserved INTEGER NOT NULL,
    input_tokens INTEGER, output_tokens INTEGER, outcome TEXT);
"""


class Spent(NamedTuple):
    """What all requests of a store have cost, those of earlier runs included."""

    requests: int
    tokens: int
    """Used, or reserved where no answer has told how many were used."""
    input_tokens: int
    output_tokens: int


class VerdictStore:
    """Raw replies by key, and every request that was sent, in one SQLite file on a local disk.

    Write-ahead log and `synchronous=FULL`: what is committed survives a kill. Other tables of the file are left alone.
    """

    def __init__(self, path: Path) -> None:
        """Open the store, or make it. Raises StoreError for a file that is damaged, locked or from a newer version."""
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._faults():
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)
            with self._transaction():
                found = self._db.execute("SELECT max(version) FROM judge_schema").fetchone()[0]
                if found is None:
                    self._db.execute("INSERT INTO judge_schema VALUES (?)", (SCHEMA,))
        if found is not None and found != SCHEMA:
            self.close()
            raise StoreError(f"{path}: judge tables of version {found}, expected {SCHEMA}: name another store")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def replies(self, key: str) -> list[str]:
        """Return the raw replies to a question, oldest first."""
        with self._faults():
            rows = self._db.execute("SELECT body FROM judge_reply WHERE key = ? ORDER BY attempt", (key,))
            return [row[0] for row in rows]

    def reserve(self, key: str, tokens: int, *, max_requests: int | None, max_tokens: int | None) -> int | None:
        """Note a request before it is sent and return its number, or None where a budget has no room for it."""
        with self._faults(), self._transaction():
            spent = self._spent()
            if max_requests is not None and spent.requests + 1 > max_requests:
                return None
            if max_tokens is not None and spent.tokens + tokens > max_tokens:
                return None
            row = (key, time.time(), tokens)
            return self._db.execute("INSERT INTO judge_request (key, at, reserved) VALUES (?, ?, ?)", row).lastrowid

    def failed(self, request: int, outcome: str) -> None:
        """Note how a request without an answer ended; what it reserved stays spent, as it may have been billed."""
        with self._faults():
            self._db.execute("UPDATE judge_request SET outcome = ? WHERE id = ?", (outcome, request))

    def answered(self, request: int | None, key: str, body: str, usage: tuple[int, int] | None) -> None:
        """Commit a raw reply, with the tokens in and out that it says it used."""
        taken = usage or (None, None)
        with self._faults(), self._transaction():
            attempt = self._db.execute("SELECT count(*) FROM judge_reply WHERE key = ?", (key,)).fetchone()[0]
            self._db.execute("INSERT INTO judge_reply VALUES (?, ?, ?, ?)", (key, attempt, body, time.time()))
            self._db.execute(
                "UPDATE judge_request SET outcome = 'reply', input_tokens = ?, output_tokens = ? WHERE id = ?",
                (*taken, request),
            )

    def spent(self) -> Spent:
        """Return what all requests have cost."""
        with self._faults():
            return self._spent()

    def _spent(self) -> Spent:
        used = "coalesce(input_tokens + output_tokens, reserved)"
        sums = f"count(*), total({used}), total(input_tokens), total(output_tokens)"
        return Spent(*map(int, self._db.execute(f"SELECT {sums} FROM judge_request").fetchone()))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"judge store {self.path}: {error}: use a whole SQLite file on a local disk that no other program "
                "holds locked"
            ) from error
