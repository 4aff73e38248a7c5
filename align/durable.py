"""SQLite files whose commits survive a kill and a power cut: what the stores of rounds, replies and judgments share."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar

from align.errors import StoreError, shorten


class DurableFile:
    """One file on a local disk for its owner alone, in write-ahead mode with `synchronous=FULL`."""

    kind: ClassVar[str]
    """What the file is, in messages."""
    advice: ClassVar[str]
    """What to do where it cannot be used."""
    tables: ClassVar[str]
    """Script that makes what is missing."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises StoreError for one that is damaged, locked, foreign, or newer."""
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = RLock()
        with suppress(OSError):  # SQLite says what is wrong with a place
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with self.told():
            self.connection = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self.check()
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute("PRAGMA synchronous=FULL")
            self.connection.executescript(self.tables)

    def check(self) -> None:
        """Refuse a file of another program or version, before anything is written to it."""

    def refuse_newer(self, schema: int) -> None:
        """Raise StoreError for tables that a newer program has marked as its own."""
        found = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if found > schema:
            raise StoreError(f"{self.path}: schema {found} is newer than this program's {schema}: update align")

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def read(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query."""
        with self._lock, self.told():
            return self.connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done inside, or undo all of it."""
        with self._lock, self.told():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                self.connection.rollback()
                raise

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what SQLite finds wrong into one line. Raises StoreError."""
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.kind} {self.path}: {shorten(error, 120)}: {self.advice}") from error
