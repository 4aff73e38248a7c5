"""What training changed elsewhere: lm-eval's measures of several models beside those of the first (alignment tax)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from align.errors import DataError
from align.evaluation.lm_eval_tasks import Measured, measures_of
from align.evaluation.report_page import Section, Table

FILE, PAIR = "lm_eval.json", ("lm_eval_before.json", "lm_eval_after.json")
"""What a run folder may hold: models before and after in one file, or one file each."""


class ModelMeasures(NamedTuple):
    """What lm-eval measured of one model."""

    model: str
    results: list[Measured]


class Change(NamedTuple):
    """One measure of one task: of every model, and its difference to the first."""

    first: Measured
    values: list[Measured | None]
    """Of every model; None where it was not measured."""
    gaps: list[tuple[float, float | None] | None]
    """Of every model but the first: the difference and its standard error."""


def changes(found: Sequence[Sequence[Measured]]) -> list[Change]:
    """Return a row for every measure of any model."""
    known = [{(one.task, one.metric): one for one in measured} for measured in found]
    rows = []
    for key in dict.fromkeys(key for measured in known for key in measured):
        values = [measured.get(key) for measured in known]
        start = values[0]
        gaps = [None if v is None or start is None else difference(v, start) for v in values[1:]]
        rows.append(Change(next(v for v in values if v is not None), values, gaps))
    return rows


def difference(after: Measured, before: Measured) -> tuple[float, float | None]:
    """Return a difference and its standard error.

    It is that of the differences by document where the values of as many documents are known of both; otherwise that of
    two independent samples, which is too wide for the same documents.
    """
    gap = after.value - before.value
    if after.values and before.values and len(after.values) == len(before.values) > 1:
        apart = np.subtract(after.values, before.values)
        return gap, float(apart.std(ddof=1) / math.sqrt(len(apart)))
    if after.error is None or before.error is None:
        return gap, None
    return gap, math.hypot(after.error, before.error)


def cells(change: Change) -> tuple[list[str], list[str]]:
    """Return what a table shows of every model, and of the difference of all but the first."""
    values = ["" if v is None else _cell(v.value, v.error, "") for v in change.values]
    return values, ["" if gap is None else _cell(*gap, "+") for gap in change.gaps]


def headed(change: Change) -> list[str]:
    """Return what a table shows of a measure: its task, its name and which way is better, its documents."""
    arrow = {True: " (up)", False: " (down)", None: ""}[change.first.higher_is_better]
    counts = dict.fromkeys(str(v.documents) for v in change.values if v is not None)
    return [change.first.task, change.first.metric + arrow, " / ".join(counts)]


def _cell(value: float, error: float | None, sign: str) -> str:
    return f"{value:{sign}.4f}" + ("" if error is None else f" ± {error:.4f}")


def read_measures(path: Path) -> list[ModelMeasures]:
    """Read what `align benchmark lm-eval` wrote, or a file of results of lm-eval itself, which is of one model.

    Raises DataError for another file.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "models" in content:
            return [
                ModelMeasures(str(one["model"]), [Measured(**row) for row in one["results"]])
                for one in content["models"]
            ]
        own = [m for task, values in content["results"].items() for m in measures_of(task, values, content)]
        return [ModelMeasures(str(content.get("model_name") or path.stem), own)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no results of lm-eval ({type(error).__name__}: {error})") from error


def measures_in(folder: Path) -> list[Path]:
    """Return the files of results that a run folder holds."""
    whole = folder / FILE
    return [whole] if whole.is_file() else [p for name in PAIR if (p := folder / name).is_file()]


def tax_section(title: str, models: Sequence[ModelMeasures]) -> Section:
    """Return the part of a report on what training changed elsewhere."""
    names = [one.model for one in models]
    header = ["task", "measure", "documents", *names, *(f"{name} - {names[0]}" for name in names[1:])]
    found = changes([one.results for one in models])
    rows = [[*headed(change), *(cell for part in cells(change) for cell in part)] for change in found]
    text = (
        "Measures of lm-eval with standard errors over documents, and how far each model is from the first: what "
        "alignment costs elsewhere. The error of a difference is that over the same documents where the value of each "
        "is known, otherwise that of two independent samples."
    )
    return Section(f"Alignment tax: {title}", text, [Table(header, rows, words=True)])
