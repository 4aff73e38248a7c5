"""What people said of the responses of each name: mean ratings, and how often each value of a field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from align.annotation.annotation_store import RaterJudgment
from align.annotation.form import RATING, Field, Remark
from align.annotation.items import AnnotationItem
from align.annotation.votes import by_item
from align.evaluation.statistics import Interval, mean_interval


class Said(NamedTuple):
    """One row of the table: what was said of the responses of one name."""

    name: str
    field: str
    value: str | None
    """The value whose share it is; null for the mean of a rating."""
    prompts: int
    mean: Interval


def said_of_names(
    items: Sequence[AnnotationItem], judgments: Sequence[RaterJudgment], fields: Sequence[Field]
) -> list[Said]:
    """Return means and shares with intervals over prompts, of each the mean over its raters and items."""
    found = []
    for field in fields:
        said = _by_name(items, judgments, field)
        for name, prompts in said.items():
            for value in (None,) if field.ordered else field.values[: 1 if len(field.values) == 2 else None]:
                means = [np.mean([v if value is None else v == value for v in values]) for values in prompts.values()]
                label = None if value is None else str(value)
                found.append(Said(name, field.name, label, len(means), mean_interval(means)))
    return found


def _by_name(
    items: Sequence[AnnotationItem], judgments: Sequence[RaterJudgment], field: Field
) -> dict[str, dict[str, list[int | str]]]:
    votes, found = by_item(judgments), dict[str, dict[str, list[int | str]]]()
    for item in items:
        for n, name in enumerate(item.names):
            for value in _values(votes.get(item.id, ()), field, n):
                found.setdefault(name, {}).setdefault(json.dumps(item.prompt), []).append(value)
    return found


def _values(judgments: Sequence[RaterJudgment], field: Field, response: int) -> Iterator[int | str]:
    for judged in judgments:
        value: Remark = judged.remarks[field.name][response] if field.name in judged.remarks else None
        if value is not None:
            yield value


def mean_ratings(item: AnnotationItem, judgments: Sequence[RaterJudgment]) -> list[float | None]:
    """Return the mean rating of each response over its raters, None where nobody rated it."""
    return [_mean([j.remarks[RATING][n] for j in judgments if RATING in j.remarks]) for n in range(len(item.responses))]


def _mean(values: Sequence[Remark]) -> float | None:
    known = [value for value in values if isinstance(value, int)]
    return float(np.mean(known)) if known else None


def summed(item: AnnotationItem, judgments: Sequence[RaterJudgment], fields: Sequence[Field]) -> list[dict[str, Any]]:
    """Return of each response its mean on every scale, and by field how many raters gave each value."""
    found = []
    for n in range(len(item.responses)):
        row: dict[str, Any] = {}
        for field in fields:
            said = list(_values(judgments, field, n))
            row[field.name] = _mean(said) if field.ordered else {str(v): said.count(v) for v in field.values}
        found.append(row)
    return found
