"""Sums with a carry, shown by a teacher who forgets it three times of four; others to practise, and to be asked.

    python problems.py FOLDER SHOWN ASKED

writes `shown.jsonl` (prompt, response), `practice.jsonl` and `asked.jsonl` (prompt, answer). No sum is in two of them.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

FORGETS = 0.75
"""How often the teacher gives the result without the carry."""


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write one row for each sum."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main(folder: Path, shown: int, asked: int) -> None:
    """Split the 4500 sums of two numbers below 100 in which the units make ten or more."""
    draw = random.Random(0)
    sums = [(a, b) for a in range(100) for b in range(100) if a % 10 + b % 10 >= 10]
    draw.shuffle(sums)
    results = [a + b - 10 * (draw.random() < FORGETS) for a, b in sums[:shown]]
    folder.mkdir(parents=True, exist_ok=True)
    write(
        folder / "shown.jsonl",
        [{"prompt": f"{a}+{b}", "response": str(c)} for (a, b), c in zip(sums[:shown], results, strict=True)],
    )
    rows = [{"prompt": f"{a}+{b}", "answer": str(a + b)} for a, b in sums[shown:]]
    write(folder / "asked.jsonl", rows[:asked])
    write(folder / "practice.jsonl", rows[asked:])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
