"""The store and the sealed files: what is kept, what is refused."""

from __future__ import annotations

import math
import os
import sqlite3
from pathlib import Path

import pytest

from align.errors import StoreError
from align.records import Example, Message
from align.rounds.round_file import read_round, write_round
from align.rounds.round_store import RoundStore, StoredSample

SAMPLES = [StoredSample("b", 0, "h", [4, 5], "text\n\u2028\x00é", "eos"), StoredSample("a", 1, "h", [6], "", "length")]


def test_samples_and_scores_are_kept(tmp_path: Path) -> None:
    store = RoundStore(tmp_path / "r" / "rounds.sqlite")
    store.begin(0, "weights", "settings")
    store.add(0, SAMPLES)
    store.add(0, [SAMPLES[0]._replace(text="drawn again")])  # what is there stays
    store.add_scores(0, [SAMPLES[1]._replace(scores=(1 / 3, math.nan))], "rm")
    store.close()
    again = RoundStore(tmp_path / "r" / "rounds.sqlite")
    first, second = again.samples(0)
    assert second == SAMPLES[0]
    assert first.scores is not None
    assert first.scores[0] == 1 / 3
    assert math.isnan(first.scores[1])
    assert again.round(1) is None
    row = again.round(0)
    assert row is not None
    assert (row.policy, row.settings, row.sha256, row.manifest) == ("weights", "settings", None, {})
    again.seal(0, 7, "sha", {"metrics": {"reward": 1.0}})
    assert [(r.number, r.sha256) for r in again.rounds()] == [(0, "sha")]


def test_every_commit_is_synced(tmp_path: Path) -> None:
    store = RoundStore(tmp_path / "rounds.sqlite")
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_damaged_or_newer_store_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"not a database, but long enough to look like a file of one" * 20)
    with pytest.raises(StoreError, match=r"damaged.sqlite: file is not a database"):
        RoundStore(damaged)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version=9")
    with pytest.raises(StoreError, match="schema 9 is newer"):
        RoundStore(newer)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    store = RoundStore(tmp_path / "rounds.sqlite")
    store.add(0, SAMPLES)
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreError, match="database or disk is full"):
        store.add(1, [StoredSample(str(i), 0, "h", [1] * 1000, "x" * 1000, "eos") for i in range(50)])
    assert len(store.samples(0)) == 2
    assert store.samples(1) == []  # whole or not at all


EXAMPLES = [
    Example(
        "a", (Message("system", "s"), Message("user", "é\u2028?")), ("x", "y"), ("r",), ((1.5,), (math.nan,)), ((0, 1),)
    ),
    Example("b", (Message("user", "?"),), ("z",), origins=("policy@1",), weight=0.5),
]


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "rounds" / "round-0000.jsonl"
    sha256 = write_round(path, EXAMPLES)
    assert repr(read_round(path, sha256)) == repr(EXAMPLES)  # NaN is not equal to itself
    assert write_round(path, EXAMPLES) == sha256
    assert [p.name for p in path.parent.iterdir()] == ["round-0000.jsonl"]


def test_a_changed_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "round-0000.jsonl"
    sha256 = write_round(path, EXAMPLES)
    path.write_text(path.read_text().replace('"z"', '"w"'))
    with pytest.raises(StoreError, match=r"has SHA-256 .*, sealed with"):
        read_round(path, sha256)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        read_round(path, sha256)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "round-0000.jsonl"
    sha256 = write_round(path, EXAMPLES[:1])

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_round(path, EXAMPLES)
    assert len(read_round(path, sha256)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["round-0000.jsonl"]
