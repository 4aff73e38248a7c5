"""The SQLite file of the annotations: its tables, what is asked of them, and whose it is."""

from __future__ import annotations

from align.durable import DurableFile
from align.errors import StoreError

APPLICATION = 0x616C676E  # "algn"
SCHEMA = 3
CHOICE = "best INTEGER, worst INTEGER, CHECK ((best IS NULL) = (worst IS NULL) AND (best IS NULL OR best <> worst))"
TABLES = f"""
PRAGMA foreign_keys=ON;
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS item (
    id TEXT PRIMARY KEY, position INTEGER NOT NULL UNIQUE, asked INTEGER NOT NULL,
    prompt TEXT NOT NULL, responses TEXT NOT NULL, names TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rater (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS labeller (rater TEXT PRIMARY KEY REFERENCES rater, said TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS showing (
    item TEXT NOT NULL REFERENCES item, rater TEXT NOT NULL REFERENCES rater, shown TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (item, rater));
CREATE TABLE IF NOT EXISTS submission (
    key TEXT PRIMARY KEY, item TEXT NOT NULL REFERENCES item, rater TEXT NOT NULL REFERENCES rater, replaces TEXT,
    at REAL NOT NULL, {CHOICE});
CREATE TABLE IF NOT EXISTS remark (key TEXT PRIMARY KEY REFERENCES submission, said TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS judgment (
    item TEXT NOT NULL, rater TEXT NOT NULL, key TEXT NOT NULL UNIQUE REFERENCES submission, PRIMARY KEY (item, rater));
PRAGMA application_id={APPLICATION};
PRAGMA user_version={SCHEMA};
"""

ITEM = "SELECT id, prompt, responses, names FROM item"
SHOWN = """
SELECT shown, judgment.key, best, worst, said FROM showing
LEFT JOIN judgment ON judgment.item = showing.item AND judgment.rater = showing.rater
LEFT JOIN submission ON submission.key = judgment.key LEFT JOIN remark ON remark.key = judgment.key
WHERE showing.item = ? AND showing.rater = ?
"""
JUDGED = """
SELECT judgment.item, name, best, worst, shown, said FROM judgment JOIN submission ON submission.key = judgment.key
LEFT JOIN remark ON remark.key = judgment.key
JOIN showing ON showing.item = judgment.item AND showing.rater = judgment.rater
JOIN rater ON rater.id = judgment.rater JOIN item ON item.id = judgment.item ORDER BY position, rater.rowid
"""
SENT = """
SELECT item, rater, best, worst, said FROM submission LEFT JOIN remark ON remark.key = submission.key
WHERE submission.key = ?
"""
PROGRESS = """
SELECT id, judgment.key IS NOT NULL FROM item
LEFT JOIN judgment ON judgment.item = item.id AND judgment.rater = ? WHERE asked ORDER BY position
"""


class Database(DurableFile):
    """The file, which the links of the raters follow from: for this user alone."""

    kind = "annotation store"
    advice = "make room, or name a whole file on a local disk; judgments that were acknowledged before are kept"
    tables = TABLES

    def check(self) -> None:
        """Refuse a file of another program or of a newer version."""
        queries = ("PRAGMA application_id", "SELECT count(*) FROM sqlite_master")
        owner, tables = (self.connection.execute(query).fetchone()[0] for query in queries)
        if tables and owner != APPLICATION:
            raise StoreError(f"{self.path}: an SQLite file of another program: name another --store")
        self.refuse_newer(SCHEMA)
