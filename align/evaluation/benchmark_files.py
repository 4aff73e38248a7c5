"""Files of the field's benchmarks as they are published: AlpacaEval, MT-bench, TruthfulQA."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import IO, Any, NamedTuple

from align.errors import DataError, shorten

RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_BARE_RATING = re.compile(r"\[(\d+\.?\d*)\]")


class Annotation(NamedTuple):
    """One judgment of AlpacaEval: the baseline's answer is the first."""

    instruction: str
    baseline: str
    answer: str
    preference: float
    """How much the answer is preferred, from 0 to 1; 0.5 is a tie, NaN without a judgment."""


class LeaderboardRow(NamedTuple):
    """What AlpacaEval's leaderboards state of a model; rates in per cent."""

    win_rate: float
    standard_error: float
    wins: int
    losses: int
    ties: int


class TruthfulQuestion(NamedTuple):
    """One question of TruthfulQA with its reference answers."""

    category: str
    text: str
    best: str
    correct: tuple[str, ...]
    incorrect: tuple[str, ...]


def read_alpaca_annotations(path: Path) -> list[Annotation]:
    """Read an annotation file, JSON or JSONL. Preferences are 1 to 2 there; 0 is an old code for a tie."""
    rows = list(json_rows(path))
    return [
        Annotation(r["instruction"], r["output_1"], r["output_2"], _preference(path, r.get("preference"))) for r in rows
    ]


def _preference(path: Path, value: float | None) -> float:
    if value is None:
        return math.nan
    if value != 0 and not 1 <= value <= 2:
        raise DataError(f"{path}: preference {value!r}, expected null, 0 or a number from 1 to 2")
    return 0.5 if value == 0 else value - 1


def leaderboard_row(annotations: Iterable[Annotation]) -> LeaderboardRow:
    """Return what AlpacaEval states: a preference within half of a percent of 0.5 is a tie, as it rounds to 1.5."""
    values = [a.preference for a in annotations if not math.isnan(a.preference)]
    wins, losses = sum(v > 0.5 for v in values), sum(v < 0.5 for v in values)
    error = 100 * stdev(values) / math.sqrt(len(values))
    return LeaderboardRow(100 * fmean(values), error, wins, losses, len(values) - wins - losses)


def mt_bench_rating(judgment: str) -> float:
    """Return the rating of an MT-bench judgment, NaN without one.

    FastChat's rule: the first `[[number]]`, else the first `[number]`. Our own judge is stricter, see
    `align.judges.verdicts`; this reads published files.
    """
    found = RATING.search(judgment) or _BARE_RATING.search(judgment)
    return float(found.group(1)) if found else math.nan


def mt_bench_scores(path: Path) -> dict[tuple[str, int], float]:
    """Return the mean stored score by model and turn of a file of single-answer judgments; -1 is no rating."""
    scores: dict[tuple[str, int], list[float]] = {}
    for row in json_rows(path):
        if row["score"] != -1:
            scores.setdefault((row["model"], row["turn"]), []).append(row["score"])
    return {key: fmean(values) for key, values in scores.items()}


def read_truthful_qa(path: Path) -> list[TruthfulQuestion]:
    """Read `TruthfulQA.csv`; reference answers stand in one cell, parted by semicolons."""
    try:
        with _opened(path) as file:
            rows = list(csv.DictReader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV file in UTF-8 ({shorten(error)})") from error
    wanted = {"Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers"}
    if missing := wanted - set(rows[0] if rows else ()):
        raise DataError(f"{path}: no column {sorted(missing)[0]!r}: expected TruthfulQA.csv")
    return [
        TruthfulQuestion(
            r["Category"],
            r["Question"],
            r["Best Answer"].strip(),
            _answers(r["Correct Answers"]),
            _answers(r["Incorrect Answers"]),
        )
        for r in rows
    ]


def _answers(cell: str) -> tuple[str, ...]:
    return tuple(text for part in cell.split(";") if (text := part.strip()))


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON list or of JSONL, also gzipped, or of Parquet. Raises DataError naming file and line."""
    if Path(path).suffix == ".parquet":
        yield from _parquet(path)
        return
    try:
        with _opened(path) as file:
            text = file.read().removeprefix("\ufeff")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({shorten(error)})") from error
    if text.lstrip().startswith("["):
        lines = [("", text)]
    else:
        lines = [(f", line {n}", line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: the file is empty")
    for place, line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}{place}: not valid JSON ({shorten(error)})") from error
        rows = found if isinstance(found, list) else [found]
        if not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{path}{place}: expected objects with named columns")
        yield from rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({shorten(error)})") from error
    return rows


def _opened(path: Path) -> IO[str]:
    name = Path(path)
    try:
        if name.suffix == ".gz":
            return gzip.open(name, "rt", encoding="utf-8")
        return name.open(encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or shorten(error)})") from error
