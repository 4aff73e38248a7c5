"""What reserving a request costs a judge, with few stored and with a million: `python -m benchmarks.reserving`."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from align.judges.verdict_store import VerdictStore

TRIES = 200


def filled(path: Path, count: int) -> VerdictStore:
    store = VerdictStore(path)
    with store.transaction() as db:
        rows = ((f"key {n}", 0.0, 5, 3, 2, "reply") for n in range(count))
        columns = "key, at, reserved, input_tokens, output_tokens, outcome"
        db.executemany(f"INSERT INTO judge_request ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rows)
    store.close()
    return VerdictStore(path)


def milliseconds(store: VerdictStore) -> float:
    took = []
    for n in range(TRIES):
        begin = time.perf_counter()
        store.reserve(f"new {n}", 7, max_requests=10**9, max_tokens=10**12)
        took.append(1000 * (time.perf_counter() - begin))
    return statistics.median(took)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for count in (100, 10_000, 1_000_000):
            store = filled(Path(folder) / f"{count}.sqlite", count)
            print(f"{count:>9,} requests stored: {milliseconds(store):.2f} ms to reserve one more (median of {TRIES})")
            store.close()
