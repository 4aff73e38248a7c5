"""Prompts for a chat model: questions of a file, to train, to tune and to measure on.

    python questions.py MODEL FOLDER TRAIN TUNING HELD_OUT SOURCE

writes `model`, a link to the model, and `train.jsonl`, `tuning.jsonl`, `held_out.jsonl` (prompt). SOURCE is a file in a
convention that `PreferenceFileDataModule` reads; of each row the first turn is asked.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from align.data.preference_file import PreferenceFile
from align.data.source import Report

LONGEST = 1200
"""Characters of a question; longer ones are left out."""


def main(model: Path, folder: Path, sizes: list[int], source: str) -> None:
    """Write the files; no question is in two of them."""
    examples = PreferenceFile(source).read("train", Report())
    asked = dict.fromkeys(example.messages[0].content for example in examples if len(example.messages) == 1)
    found = [text for text in asked if len(text) <= LONGEST]
    if len(found) < sum(sizes):
        raise SystemExit(f"{source}: {len(found)} questions, {sum(sizes)} are asked for: lower the sizes")
    random.Random(0).shuffle(found)
    folder.mkdir(parents=True, exist_ok=True)
    questions = iter(found)
    for name, size in zip(("held_out", "tuning", "train"), reversed(sizes), strict=True):
        rows = [json.dumps({"prompt": next(questions)}) for _ in range(size)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "model").unlink(missing_ok=True)
    (folder / "model").symlink_to(model.resolve(), target_is_directory=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(size) for size in sys.argv[3:6]], sys.argv[6])
