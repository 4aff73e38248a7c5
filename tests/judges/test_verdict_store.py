"""The store of verdicts: what reserving costs in it, and sums that an older one lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.judges.verdict_store import VerdictStore


@pytest.mark.parametrize("count", [10, 20_000])
def test_reserving_costs_the_same_in_a_large_store(count: int, tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, not in time."""
    store = VerdictStore(tmp_path / "judge.sqlite")
    with store.transaction() as db:
        rows = ((f"key{n}", 0.0, 5) for n in range(count))
        db.executemany("INSERT INTO judge_request (key, at, reserved) VALUES (?, ?, ?)", rows)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    store.connection.set_progress_handler(step, 1)
    request = store.reserve("new", 7, max_requests=10**9, max_tokens=10**9)
    store.answered(request, "new", "{}", (3, 2))
    store.connection.set_progress_handler(None, 1)
    assert steps < 400
    assert store.spent() == (count + 1, 5 * count + 5, 3, 2)
    store.close()


def test_a_store_without_sums_gets_them(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "judge.sqlite")
    store.answered(store.reserve("a", 9, max_requests=None, max_tokens=None), "a", "{}", (4, 3))
    store.reserve("b", 9, max_requests=None, max_tokens=None)
    with store.transaction() as db:
        db.execute("DROP TABLE judge_spent")
        db.execute("DROP TRIGGER judge_reserved")
        db.execute("DROP TRIGGER judge_billed")
    store.close()
    again = VerdictStore(tmp_path / "judge.sqlite")
    assert again.spent() == (2, 16, 4, 3)
    again.close()
