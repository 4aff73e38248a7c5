"""Puts the data of the study into one folder, a JSONL file each: those of a data folder, or made-up ones without it."""

from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path

SETS = {
    "hh": ["hh-rlhf-harmless-base/test.jsonl.gz"],
    "uf": ["ultrafeedback-binarized/train.jsonl.gz", "ultrafeedback-binarized/eval.jsonl.gz"],
    "qa": ["qa-feedback-ranked/dev.jsonl.gz"],
    "alpaca": ["alpaca-eval-ranked/ranked.jsonl.gz"],
}
"""Files below the data folder, by the name they get here."""
ROWS = 40
"""Of a made-up file."""


def main(out: str, _: str, data: str = "") -> None:
    """Write the files of all sets, behind a step whose folder is named for its order alone."""
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, files in SETS.items():
        rows = [line for file in files for line in _lines(Path(data) / file)] if data else _made_up(name)
        (Path(out) / f"{name}.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")
        print(f"{name}: {len(rows)} rows")


def _lines(file: Path) -> list[str]:
    with gzip.open(file, "rt", encoding="utf-8") as content:
        return content.read().splitlines()


def _made_up(name: str) -> list[str]:
    """Return rows in which the better response is the more polite one."""
    drawn = random.Random(name)
    rows = []
    for number in range(ROWS):
        said = [f"{'please ' * (3 - n)}{drawn.choice('abcdef')}" for n in range(4)]
        row = {"prompt": f"{name} {number}", "chosen": said[0], "rejected": said[3]}
        if name in ("qa", "alpaca"):
            row = {"prompt": f"{name} {number}", "completions": said, "scores": [3.0, 2.0, 1.0, 0.0]}
        rows.append(json.dumps(row))
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
