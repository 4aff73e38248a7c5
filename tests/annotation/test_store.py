"""What is kept of judgments: orders, one judgment per rater and item, keys that make a submission safe to repeat."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from align.annotation.annotation_store import AnnotationStore, Conflict
from align.annotation.form import Field, RatingScale
from align.annotation.items import AnnotationItem, Choice
from align.errors import ConfigError, StoreError
from tests.annotation.service import fill, pairs

A, B, TIE = Choice(0, 1), Choice(1, 0), Choice(None, None)
FORM = (RatingScale().field(), Field("harm", "Harmful?"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return fill(tmp_path / "a.sqlite", pairs(40), ("ann", "bob"))


@pytest.fixture
def store(path: Path) -> AnnotationStore:
    return AnnotationStore(path)


def test_orders_are_random_and_kept(store: AnnotationStore, path: Path) -> None:
    ann, bob = store.raters()
    items = [item.id for item in store.items()]
    orders = {r.name: [store.show(r.id, i).order for i in items] for r in (ann, bob)}
    for found in orders.values():  # of 40 fair coins, fewer than 6 of one side have a chance of 1e-6
        assert 6 <= found.count((0, 1)) <= 34
    assert orders["ann"] != orders["bob"]
    again = AnnotationStore(path)
    assert [again.show(ann.id, i).order for i in items] == orders["ann"]


def test_judgments_are_kept_by_response_not_by_place(store: AnnotationStore) -> None:
    ann = store.raters()[0]
    for n, item in enumerate(store.items()):
        shown = store.show(ann.id, item.id)
        store.submit(ann.id, item.id, Choice(*[(0, 1), (1, 0), (None, None)][n % 3]), key=f"key-{n:016}", replaces=None)
        kept = store.show(ann.id, item.id).choice
        assert kept == (shown.order[n % 3], shown.order[1 - n % 3]) if n % 3 < 2 else kept == (None, None)
    assert [j.choice for j in store.judgments()] == [store.show(ann.id, i.id).choice for i in store.items()]


def test_one_judgment_per_rater_and_item(store: AnnotationStore, path: Path) -> None:
    ann, bob = store.raters()
    item = store.items()[0].id
    for rater in (ann, bob):
        store.show(rater.id, item)
    for _ in range(3):  # a double click, and a retry after an answer that was lost
        store.submit(ann.id, item, A, key="a" * 16, replaces=None)
    with pytest.raises(Conflict):  # another tab, which has not seen it
        store.submit(ann.id, item, B, key="b" * 16, replaces=None)
    with pytest.raises(Conflict):  # one key for two things
        store.submit(ann.id, item, B, key="a" * 16, replaces="a" * 16)
    with pytest.raises(Conflict):
        store.submit(bob.id, item, A, key="a" * 16, replaces=None)
    store.submit(ann.id, item, TIE, key="c" * 16, replaces="a" * 16)  # a change of mind
    store.submit(ann.id, item, A, key="a" * 16, replaces=None)  # the first one, delivered late
    store.submit(bob.id, item, B, key="d" * 16, replaces=None)
    assert [(j.rater, j.choice == TIE) for j in store.judgments()] == [("ann", True), ("bob", False)]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM submission").fetchone() == (3,)  # history stays
    assert [judged for _, judged in store.progress(ann.id)] == [True] + [False] * 39


@pytest.mark.parametrize(
    "choice", [(0, 0), (0, None), (None, 1), (0, 2), (-1, 0), (True, False), (0.0, 1.0), ("0", "1"), ([], {})]
)
def test_what_is_no_judgment(store: AnnotationStore, choice: tuple) -> None:
    ann, item = store.raters()[0].id, store.items()[0].id
    store.show(ann, item)
    with pytest.raises(ValueError, match="two different responses of 2"):
        store.submit(ann, item, Choice(*choice), key="a" * 16, replaces=None)
    assert store.judgments() == []


def test_only_what_was_shown_can_be_judged(store: AnnotationStore) -> None:
    ann, bob = store.raters()
    first, second = store.items()[:2]
    store.show(bob.id, first.id)
    for item in (first.id, second.id, "nowhere"):
        with pytest.raises(ValueError, match="not been shown"):
            store.submit(ann.id, item, A, key="a" * 16, replaces=None)
    assert store.show(ann.id, "nowhere") is None


def test_same_texts_are_not_asked(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "p"}]
    items = [AnnotationItem.new(prompt, ["x", "x"], ["a", "b"]), AnnotationItem.new(prompt, ["x", "y"], ["a", "b"])]
    store = AnnotationStore(fill(tmp_path / "a.sqlite", items))
    ann = store.raters()[0].id
    assert store.progress(ann) == [(items[1].id, False)]
    assert store.show(ann, items[0].id) is None


def test_commits_are_durable_and_the_file_is_private(store: AnnotationStore, path: Path) -> None:
    db = store._db.connection
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    for file in (path, path.with_name(f"{path.name}-wal")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_same_items_go_on_and_others_are_refused(tmp_path: Path) -> None:
    path = fill(tmp_path / "a.sqlite", pairs(3))
    ids = [item.id for item in AnnotationStore(path).items()]
    fill(path, pairs(3), ("ann", "bob"))  # the same content with new ids
    store = AnnotationStore(path)
    assert [item.id for item in store.items()] == ids
    assert [rater.name for rater in store.raters()] == ["ann", "bob"]
    with pytest.raises(ConfigError, match="begun with other items"):
        store.begin(pairs(4), "pairs", "Which response is better?")
    with pytest.raises(ConfigError, match=r"begun with other question .*'Which response is better"):
        store.begin(pairs(3), "pairs", "Which one is funnier?")


def test_files_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such store"):
        AnnotationStore(tmp_path / "missing.sqlite")
    assert not (tmp_path / "missing.sqlite").exists()
    (tmp_path / "text").write_text("no database at all " * 99)
    with pytest.raises(StoreError, match="not a database"):
        AnnotationStore(tmp_path / "text")
    with sqlite3.connect(tmp_path / "foreign") as db:
        db.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreError, match="of another program"):
        AnnotationStore(tmp_path / "foreign")
    with sqlite3.connect(fill(tmp_path / "newer", pairs(1))) as db:
        db.execute("PRAGMA user_version=9")
    with pytest.raises(StoreError, match="schema 9 is newer"):
        AnnotationStore(tmp_path / "newer")
    empty = AnnotationStore(tmp_path / "empty", create=True)
    with pytest.raises(ConfigError, match="holds no items"):
        empty.setting("task")


class TestRemarks:
    @pytest.fixture
    def store(self, tmp_path: Path) -> AnnotationStore:
        return AnnotationStore(fill(tmp_path / "r.sqlite", pairs(40), fields=FORM))

    def test_kept_by_response_not_by_place(self, store: AnnotationStore) -> None:
        rater = store.raters()[0].id
        for n, item in enumerate(store.items()):
            order = store.show(rater, item.id).order
            said = {"rating": [7, 1], "harm": [None, "yes"]}
            for _ in range(2):  # a retry
                store.submit(rater, item.id, A, key=f"key-{n:016}", replaces=None, remarks=said)
            kept = store.show(rater, item.id).remarks
            assert [kept["rating"][i] for i in order] == [7, 1]
            assert kept["harm"][order[1]] == "yes"
        assert {j.remarks["rating"][j.choice.best] for j in store.judgments()} == {7}

    def test_other_remarks_under_one_key_are_another_judgment(self, store: AnnotationStore) -> None:
        rater, item = store.raters()[0].id, store.items()[0].id
        store.show(rater, item)
        store.submit(rater, item, A, key="a" * 16, replaces=None, remarks={"rating": [7, 1]})
        with pytest.raises(Conflict):
            store.submit(rater, item, A, key="a" * 16, replaces=None, remarks={"rating": [7, 2]})
        store.submit(rater, item, A, key="b" * 16, replaces="a" * 16, remarks={"rating": [7, 2]})
        assert sorted(store.judgments()[0].remarks["rating"]) == [2, 7]

    @pytest.mark.parametrize(
        "said",
        [
            None,  # a rating is required
            {"rating": [7, None]},
            {"rating": [7, 8]},
            {"rating": [7, True]},
            {"rating": [7, 1.0]},
            {"rating": [7]},
            {"rating": "71"},
            {"rating": [7, 1], "harm": ["yes", "perhaps"]},
            {"rating": [7, 1], "else": [None, None]},
            [],
        ],
    )
    def test_what_is_no_remark(self, store: AnnotationStore, said: object) -> None:
        rater, item = store.raters()[0].id, store.items()[0].id
        store.show(rater, item)
        with pytest.raises(ValueError, match=r"rating|harm|remarks"):
            store.submit(rater, item, A, key="a" * 16, replaces=None, remarks=said)
        assert store.judgments() == []

    def test_a_store_of_before_goes_on(self, path: Path) -> None:
        with sqlite3.connect(path) as db:
            db.executescript("DROP TABLE remark; DELETE FROM setting WHERE name = 'fields'; PRAGMA user_version=1")
        store = AnnotationStore(path)
        rater, item = store.raters()[0].id, store.items()[0].id
        store.show(rater, item)
        store.submit(rater, item, A, key="a" * 16, replaces=None)
        assert (store.fields(), store.judgments()[0].remarks) == ((), {})

    def test_other_fields_are_another_store(self, store: AnnotationStore) -> None:
        with pytest.raises(ConfigError, match="begun with other fields"):
            store.begin(store.items(), "pairs", "Which response is better?")
