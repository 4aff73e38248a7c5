"""AlpacaEval's figures (Li et al. 2023; Dubois et al. 2024, arXiv:2404.04475): annotations, and a leaderboard row."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from align.errors import DataError, shorten
from align.evaluation.benchmark_files import json_rows
from align.evaluation.model_answers import Answers
from align.judges.preference import Judge

COLUMNS = (
    "win_rate",
    "standard_error",
    "n_wins",
    "n_wins_base",
    "n_draws",
    "n_total",
    "discrete_win_rate",
    "mode",
    "avg_length",
    "length_controlled_winrate",
    "lc_standard_error",
)
"""Those of the published leaderboards."""


class Annotated(NamedTuple):
    """The annotations of one model."""

    model: str
    rows: list[dict[str, Any]]
    scores: list[float]
    """How much the model's answer is preferred, from 0 to 1; NaN without a judgment."""
    nulls: int
    zeros: int
    """Old codes of ties."""


def read_annotations(path: Path) -> list[Annotated]:
    """Read an annotation file by model (`generator_2`), in its order.

    Raises DataError for a column that is missing, a preference that is none, or an instruction that stands twice.
    """
    return as_annotated(list(json_rows(path)), str(path))


def as_annotated(rows: Sequence[dict[str, Any]], where: str) -> list[Annotated]:
    """Return the annotations of each model."""
    models: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, 1):
        texts = [row.get(key) for key in ("instruction", "output_1", "output_2")]
        if not all(isinstance(text, str) for text in texts) or "preference" not in row:
            raise DataError(
                f"{where}, row {number}: expected texts in instruction, output_1 and output_2, and a preference"
            )
        value = row["preference"]
        number_like = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number_like and (value == 0 or 1 <= value <= 2)):
            raise DataError(
                f"{where}, row {number}: preference {value!r}, expected null, 0 (an old code for a tie), or a number "
                "from 1 (output_1) to 2 (output_2)"
            )
        models.setdefault(str(row.get("generator_2") or "model"), []).append(row)
    if not models:
        raise DataError(f"{where}: the file holds no annotation")
    return [_annotated(model, part, where) for model, part in models.items()]


def _annotated(model: str, rows: list[dict[str, Any]], where: str) -> Annotated:
    seen = Counter(row["instruction"] for row in rows)
    if again := {text: n for text, n in seen.items() if n > 1}:
        raise DataError(
            f"{where}: {sum(again.values()) - len(again)} of {len(rows)} annotations of {model} are of an instruction "
            f"that stands before, the first {shorten(next(iter(again)), 60)!r}: keep one each"
        )
    values = [row["preference"] for row in rows]
    scores = [math.nan if v is None else 0.5 if v == 0 else v - 1 for v in values]
    if all(map(math.isnan, scores)):
        raise DataError(f"{where}: none of {len(rows)} annotations of {model} holds a preference")
    return Annotated(model, rows, scores, values.count(None), sum(v == 0 for v in values if v is not None))


def leaderboard_row(found: Annotated, length_controlled: tuple[float, float] | None) -> dict[str, Any]:
    """Return a row of the leaderboard, rates in per cent; what is not known is null."""
    known = [score for score in found.scores if not math.isnan(score)]
    wins, losses = sum(s > 0.5 for s in known), sum(s < 0.5 for s in known)
    draws = len(known) - wins - losses
    error = 100 * stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None
    rate, spread = length_controlled or (None, None)
    length = int(fmean(len(row["output_2"]) for row in found.rows))
    values = (100 * fmean(known), error, wins, losses, draws, len(known), 100 * (wins + draws / 2) / len(known))
    return dict(zip(COLUMNS, (*values, "community", length, rate, spread), strict=True))


def leaderboard_csv(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return rows as AlpacaEval's `leaderboard.csv`, which `--precomputed_leaderboard` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *COLUMNS])
    for model, row in rows.items():
        writer.writerow([model, *("" if row[name] is None else row[name] for name in COLUMNS)])
    return text.getvalue()


def annotate(judge: Judge, baseline: Answers, answers: Answers) -> list[dict[str, Any]]:
    """Return annotations in AlpacaEval's columns, in the order of the baseline; null where the judge gave no verdict.

    Every pair is asked in both orders and the mean is kept, where AlpacaEval asks one order drawn at random: the
    expectation is the same, without the noise of that draw, at twice the requests. Equal answers are a tie, as there.
    """
    prompts = list(baseline.texts)
    first, second = ([side.texts[p] for p in prompts] for side in (baseline, answers))
    preferences = judge.prefer(prompts, second, first)
    return [
        {
            "instruction": prompt[-1].content,
            "dataset": baseline.datasets[prompt] or answers.datasets[prompt],
            "output_1": one,
            "generator_1": baseline.name,
            "output_2": other,
            "generator_2": answers.name,
            "annotator": judge.name,
            "preference": None if math.isnan(found.probability) else 1 + found.probability,
        }
        for prompt, one, other, found in zip(prompts, first, second, preferences, strict=True)
    ]
