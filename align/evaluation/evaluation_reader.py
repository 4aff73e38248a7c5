"""What `align evaluate` wrote, read back for a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from align.errors import DataError
from align.evaluation.statistics import Interval
from align.strict_json import number

RESULTS = "evaluation.json"


@dataclass(frozen=True)
class Level:
    """A model at one temperature."""

    rewards: dict[str, dict[str, Interval]]
    """Mean reward by output, then by subset."""
    per_prompt: dict[str, list[float]]
    """Mean reward of each prompt, by output."""
    text: dict[str, float]
    kl: Interval | None
    completions: Path | None
    """Its responses; None where they are no longer there."""


class Verdicts(NamedTuple):
    """What a judge says of a model."""

    judge: str
    win_rate: Interval
    """Wins by item, ties half, over items with a valid verdict in both orders."""
    win: Interval
    tie: Interval
    lose: Interval
    length_controlled: float
    flip_rate: Interval
    items: int
    """Items that count."""
    invalid: int
    """Items with an invalid reply."""


@dataclass(frozen=True)
class Evaluation:
    """One set of prompts, and what models made of them."""

    folder: Path
    prompts: str
    """Hash of the prompts; empty in files that do not say."""
    settings: dict[str, Any]
    models: dict[str, dict[str, Level]]
    """By model folder, then by temperature."""
    judged: dict[tuple[str, str], Verdicts] = field(default_factory=dict)
    """By model, and by whom it was compared with: a model folder, or `references`."""
    asked: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By model, what it was asked in a few words, and the text that stood beside the prompt."""

    @property
    def temperatures(self) -> list[str]:
        """Every temperature that was sampled at."""
        return list(dict.fromkeys(t for levels in self.models.values() for t in levels))

    @property
    def outputs(self) -> list[str]:
        """Every output of the reward models."""
        return list(dict.fromkeys(o for ls in self.models.values() for level in ls.values() for o in level.rewards))


class HowAsked(NamedTuple):
    """The first response to one prompt."""

    prompt: str
    text: str


def read_evaluation(path: Path) -> Evaluation:
    """Read the results of `align evaluate`. Raises DataError for another file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        settings, files = content["settings"], content.get("completions", {})
        models = {
            name: {t: _level(level, path.parent, files.get(name, {}).get(t)) for t, level in levels.items()}
            for name, levels in content["models"].items()
        }
        judged = {(name, str(settings["against"])): _verdicts(v) for name, v in content["judge"].items()}
        asked = {n: (str(a["told"]), str(a["text"])) for n, a in content.get("asked", {}).items() if a["told"]}
        return Evaluation(path.parent, str(settings.get("fingerprint", "")), settings, models, judged, asked)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no results of `align evaluate` ({type(error).__name__}: {error})") from error


def first_responses(path: Path, limit: int) -> list[HowAsked]:
    """Return the first response to each of the first prompts. Raises DataError for another file."""
    found: dict[int, HowAsked] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["index"] not in found:
                prompt = "\n".join(
                    f"{m['role']}: {m['content']}" if len(row["prompt"]) > 1 else m["content"] for m in row["prompt"]
                )
                found[row["index"]] = HowAsked(prompt, str(row["completion"]))
            if len(found) == limit:
                break
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no completions of `align evaluate` ({type(error).__name__}: {error})") from error
    return [found[i] for i in sorted(found)][:limit]


def _level(level: dict[str, Any], folder: Path, file: str | None) -> Level:
    path = None if file is None else folder / "completions" / Path(file).name  # never a file elsewhere
    return Level(
        {o: {s: _interval(part["raw"]) for s, part in parts.items()} for o, parts in level["rewards"].items()},
        {o: [number(v) for v in values] for o, values in level["per_prompt"].items()},
        {name: float(v) for name, v in level["text"].items() if isinstance(v, int | float)},
        None if level["kl"] is None else _interval(level["kl"]),
        path if path is not None and path.is_file() else None,
    )


def _interval(found: Sequence[float | None]) -> Interval:
    return Interval(*map(number, found))


def _verdicts(found: dict[str, Any]) -> Verdicts:
    total = found["total"]
    return Verdicts(
        judge=str(found["judge"]),
        win_rate=_interval(total["win_rate"]),
        win=_interval(total["win"]),
        tie=_interval(total["tie"]),
        lose=_interval(total["lose"]),
        length_controlled=number(total["length_controlled"]),
        flip_rate=_interval(total["flip_rate"]),
        items=int(total["items"]),
        invalid=int(total["invalid"]),
    )
