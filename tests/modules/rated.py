"""Rated responses: HelpSteer and UltraFeedback rows, each with the labels of its own dataset."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from align.data.batching import Batching
from align.data.helpsteer import ATTRIBUTES, HelpSteer
from align.data.mixture import MixtureDataModule
from align.data.splits import Splits
from align.data.ultrafeedback import ASPECTS, UltraFeedback
from tests.tiny import WORDS


def write_rated(folder: Path, count: int = 10, seed: int = 0) -> tuple[Path, Path]:
    """Two files of `2 * count` HelpSteer and `2 * count` UltraFeedback responses; longer ones are more verbose."""
    draw = random.Random(seed)

    def response() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 12)))

    def prompt() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(2, 8)))

    steer = []
    for _ in range(count):
        asked = prompt()
        for _ in range(2):
            text = response()
            grades = {**{a: draw.randint(0, 4) for a in ATTRIBUTES}, "verbosity": min(len(text.split()) // 3, 4)}
            steer.append({"prompt": asked, "response": text, **grades})
    feedback = [
        {"instruction": prompt(), "completions": [_completion(response(), draw) for _ in range(2)]}
        for _ in range(count)
    ]
    paths = folder / "steer.jsonl", folder / "feedback.jsonl"
    for path, rows in zip(paths, (steer, feedback), strict=True):
        path.write_text("\n".join(map(json.dumps, rows)))
    return paths


def _completion(text: str, draw: random.Random) -> dict[str, Any]:
    ratings = {a: {"Rating": draw.choice(["1", "2", "3", "4", "5", "N/A"])} for a in ASPECTS}
    return {"response": text, "overall_score": draw.randint(1, 10), "annotations": ratings}


def rated_data(folder: Path, groups: int = 4, count: int = 10, **options: Any) -> MixtureDataModule:
    steer, feedback = write_rated(folder, count)
    sources = [HelpSteer(str(steer)), UltraFeedback(str(feedback))]
    options = {"batching": Batching(groups=groups, tokens=10**9), "splits": Splits(0), "seed": 0, **options}
    return MixtureDataModule(sources, **options)
