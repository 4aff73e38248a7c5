"""Samples and rewards of a run in one SQLite file, committed as they arrive: what was paid for is never lost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from align.durable import DurableFile
from align.sampling.generation import Finish

SCHEMA = 1
NOTHING = "nothing"
"""In the manifest of a round that is not sealed: it gave nothing to train on."""
TABLES = f"""
CREATE TABLE IF NOT EXISTS round (
    number INTEGER PRIMARY KEY, policy TEXT NOT NULL, settings TEXT NOT NULL, begun TEXT NOT NULL,
    rows INTEGER, sha256 TEXT, manifest TEXT
);
CREATE TABLE IF NOT EXISTS sample (
    round INTEGER NOT NULL, prompt TEXT NOT NULL, number INTEGER NOT NULL, prompt_hash TEXT NOT NULL,
    ids TEXT NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL, scores TEXT, scorer TEXT, drawn TEXT NOT NULL,
    PRIMARY KEY (round, prompt, number)
);
CREATE TABLE IF NOT EXISTS engine (
    round INTEGER NOT NULL, prompt TEXT NOT NULL, number INTEGER NOT NULL, logprobs TEXT NOT NULL,
    PRIMARY KEY (round, prompt, number)
);
PRAGMA user_version={SCHEMA};
"""


class StoredSample(NamedTuple):
    """One sample as it is kept."""

    prompt: str
    number: int
    prompt_hash: str
    """Of the prompt's token ids."""
    ids: list[int]
    text: str
    finish: Finish
    scores: tuple[float, ...] | None = None
    """None before it is scored; NaN where the scorer gave no number."""
    logprobs: list[float] | None = None
    """Of each token, as the engine that drew them told; None where it told none."""


class RoundRow(NamedTuple):
    """What the store knows of a round."""

    number: int
    policy: str
    """Hash of the weights it is sampled from."""
    settings: str
    """Hash of everything else that decides its samples and rows."""
    sha256: str | None
    """Of the sealed file; None before the round is sealed."""
    manifest: dict[str, Any]


class RoundStore(DurableFile):
    """Samples of a run by round, prompt and number."""

    kind = "round store"
    advice = "what was kept before is whole: make room or free the file, then give the same command again"
    tables = TABLES

    def check(self) -> None:
        """Refuse a newer version."""
        self.refuse_newer(SCHEMA)

    def round(self, number: int) -> RoundRow | None:
        """Return what is known of a round, None before it is begun."""
        found = self.read("SELECT number, policy, settings, sha256, manifest FROM round WHERE number = ?", number)
        return _round(found[0]) if found else None

    def rounds(self) -> list[RoundRow]:
        """Return all rounds."""
        return [_round(r) for r in self.read("SELECT number, policy, settings, sha256, manifest FROM round ORDER BY 1")]

    def begin(self, number: int, policy: str, settings: str) -> None:
        """Note which weights and settings a round belongs to, before its first sample."""
        self._write(
            "INSERT INTO round (number, policy, settings, begun) VALUES (?, ?, ?, datetime())",
            [(number, policy, settings)],
        )

    def add(self, number: int, samples: Sequence[StoredSample]) -> None:
        """Keep samples; those that are there already stay as they are."""
        rows = [(number, s.prompt, s.number, s.prompt_hash, json.dumps(s.ids), s.text, s.finish) for s in samples]
        told = [(number, s.prompt, s.number, _dump(s.logprobs)) for s in samples if s.logprobs]
        with self.transaction() as db:
            db.executemany(  # first: what an earlier sample of this number told goes with that sample
                "INSERT INTO engine (round, prompt, number, logprobs) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS "
                "(SELECT 1 FROM sample WHERE round = ?1 AND prompt = ?2 AND number = ?3)",
                told,
            )
            db.executemany(
                "INSERT OR IGNORE INTO sample (round, prompt, number, prompt_hash, ids, text, finish, drawn) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, datetime())",
                rows,
            )

    def add_scores(self, number: int, scored: Sequence[StoredSample], scorer: str) -> None:
        """Keep the scores of samples."""
        rows = [(_dump(s.scores or ()), scorer, number, s.prompt, s.number) for s in scored]
        self._write("UPDATE sample SET scores = ?, scorer = ? WHERE round = ? AND prompt = ? AND number = ?", rows)

    def forget_scores(self, number: int, scorer: str) -> int:
        """Forget the scores that another scorer gave, such as a function before it was mended; return their number."""
        others = "round = ? AND scores IS NOT NULL AND scorer != ?"
        ((count,),) = self.read(f"SELECT COUNT(*) FROM sample WHERE {others}", number, scorer)
        if count:
            self._write(f"UPDATE sample SET scores = NULL, scorer = NULL WHERE {others}", [(number, scorer)])
        return int(count)

    def scored_by(self, number: int) -> str | None:
        """Return the identity of what scored a round, None for one without scores."""
        found = self.read("SELECT scorer FROM sample WHERE round = ? AND scores IS NOT NULL LIMIT 1", number)
        return str(found[0][0]) if found else None

    def has_logprobs(self, number: int) -> bool:
        """Tell whether an engine told log-probabilities of a sample of a round."""
        return bool(self.read("SELECT 1 FROM engine WHERE round = ? LIMIT 1", number))

    def samples(self, number: int) -> list[StoredSample]:
        """Return the samples of a round, by prompt and number."""
        found = self.read(
            "SELECT prompt, number, prompt_hash, ids, text, finish, scores, logprobs FROM sample "
            "LEFT JOIN engine USING (round, prompt, number) WHERE round = ? ORDER BY 1, 2",
            number,
        )
        return [_sample(row) for row in found]

    def seal(self, number: int, rows: int, sha256: str, manifest: dict[str, Any]) -> None:
        """Note that a round's file is whole: from now on the round is that file."""
        values = [(rows, sha256, json.dumps(manifest), number)]
        self._write("UPDATE round SET rows = ?, sha256 = ?, manifest = ? WHERE number = ?", values)

    def came_to_nothing(self, number: int) -> None:
        """Note that a round gave nothing to train on, so that other settings may make it anew."""
        self._write("UPDATE round SET manifest = ? WHERE number = ?", [(json.dumps({NOTHING: True}), number)])

    def forget(self, number: int) -> None:
        """Forget a round and its samples."""
        with self.transaction() as db:
            for table, column in (("engine", "round"), ("sample", "round"), ("round", "number")):
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", (number,))

    def _write(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        with self.transaction() as db:
            db.executemany(query, rows)


def _round(row: Sequence[Any]) -> RoundRow:
    number, policy, settings, sha256, manifest = row
    return RoundRow(number, policy, settings, sha256, json.loads(manifest or "{}"))


def _sample(row: Sequence[Any]) -> StoredSample:
    prompt, number, prompt_hash, ids, text, finish, scores, logprobs = row
    scored = None if scores is None else _load(scores)
    told = None if logprobs is None else list(_load(logprobs))
    return StoredSample(prompt, number, prompt_hash, json.loads(ids), text, finish, scored, told)


def _dump(scores: Sequence[float]) -> str:
    return json.dumps([None if math.isnan(s) else s for s in scores])


def _load(text: str) -> tuple[float, ...]:
    return tuple(math.nan if s is None else float(s) for s in json.loads(text))
