"""The synthetic world's data as files, in the formats of the datasets it stands in for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from align.data.source import Report
from align.data.synthetic import Synthetic
from align.records import Example
from align.world.preferences import Preferences, Ratings
from align.world.universe import World
from align.world.world_file import write_world

FILES = {"train": "train", "val": "validation", "test": "test"}
Rows = Iterator[dict[str, Any]]


class Format(NamedTuple):
    """How examples are written, and how they are drawn for it."""

    rows: Callable[[Example], Rows]
    responses: int | None = None
    """Responses per prompt, at least; null keeps the setting."""
    ratings: Ratings = "gold"


def write_files(folder: Path, preferences: Preferences, world: World) -> dict[str, int]:
    """Write every split in every format to `folder/FORMAT/SPLIT.jsonl`; return the number of rows of each file."""
    counts: dict[str, int] = {}
    folder.mkdir(parents=True, exist_ok=True)
    write_world(folder, world)
    for name, form in FORMATS.items():
        responses = max(preferences.responses, form.responses or 0)
        source = Synthetic(replace(preferences, responses=responses, ratings=form.ratings), world)
        for split, file in FILES.items():
            rows = [row for example in source.read(split, Report()) for row in form.rows(example)]
            counts[f"{name}/{file}.jsonl"] = len(rows)
            path = folder / name / f"{file}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows), encoding="utf-8")
    return counts


def _hh_rlhf(example: Example) -> Rows:
    said = {"user": "Human", "assistant": "Assistant"}
    context = "".join(f"\n\n{said[m.role]}: {m.content}" for m in example.messages) + "\n\nAssistant: "
    chosen, rejected, *_ = _best_first(example)
    yield {"chosen": context + chosen, "rejected": context + rejected}


def _pairs(example: Example) -> Rows:
    chosen, rejected, *_ = ([{"role": "assistant", "content": text}] for text in _best_first(example))
    yield {"prompt": _messages(example), "chosen": chosen, "rejected": rejected, "user": example.user}


def _lists(example: Example) -> Rows:
    """Scores are places in the drawn order, so that the file says what the annotator said."""
    places = [len(example.responses) - 1 - rank for rank in example.ranks]
    yield {"prompt": _messages(example), "completions": list(example.responses), "scores": places}


def _ultrafeedback(example: Example) -> Rows:
    if len(example.messages) > 1:  # an instruction is one text
        return
    completions = [
        {
            "model": "synthetic",
            "response": response,
            "annotations": {
                aspect: {"Rating": "N/A" if math.isnan(score) else str(int(score))}
                for aspect, score in zip(example.attributes, scores, strict=True)
            },
        }
        for response, scores in zip(example.responses, example.scores, strict=True)
    ]
    yield {"instruction": example.messages[0].content, "completions": completions}


def _helpsteer(example: Example) -> Rows:
    if len(example.messages) > 1:  # a prompt is one text
        return
    for response, scores in zip(example.responses, example.scores, strict=True):
        rated = {name: None if math.isnan(s) else int(s) for name, s in zip(example.attributes, scores, strict=True)}
        yield {"prompt": example.messages[0].content, "response": response, **rated}


def _prompts(example: Example) -> Rows:
    yield {"prompt": _messages(example)}


def _best_first(example: Example) -> Iterable[str]:
    return (example.responses[i] for group in example.ranking for i in group)


def _messages(example: Example) -> list[dict[str, str]]:
    return [message.as_turn() for message in example.messages]


FORMATS = {
    "hh-rlhf": Format(_hh_rlhf, 2),
    "pairs": Format(_pairs, 2),
    "lists": Format(_lists, 4),
    "ultrafeedback": Format(_ultrafeedback, 4, "ultrafeedback"),
    "helpsteer": Format(_helpsteer, 2, "helpsteer"),
    "prompts": Format(_prompts),
}
