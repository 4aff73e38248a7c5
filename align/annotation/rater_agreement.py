"""How far raters agree, in their choices and in what they say of each response; with intervals over items."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from align.annotation.annotation_store import RaterJudgment
from align.annotation.form import Field
from align.annotation.items import AnnotationItem
from align.annotation.votes import by_item
from align.evaluation.krippendorff import Level, alpha_interval
from align.evaluation.statistics import Interval, bootstrap

Array = NDArray[np.float64]
TIE = -1
"""The label of a judgment that prefers nothing."""


class RaterAgreement(NamedTuple):
    """How often raters say the same, and that beyond chance."""

    raters: tuple[str, ...]
    question: str
    """What is compared: the judgment of a pair, the choice of the best or of the worst, or a field."""
    items: int
    """Items that all of them have judged; of a field, responses of which all of them have said something."""
    rate: Interval
    """Share of pairs of raters with the same judgment."""
    kappa: Interval
    """Cohen's of two raters, Fleiss' of more."""


class RaterAlpha(NamedTuple):
    """Krippendorff's alpha of all raters, whatever some of them left out."""

    question: str
    level: Level
    items: int
    """Items, or responses, of which two raters or more have said something."""
    alpha: Interval


class RatedQuestion(NamedTuple):
    """What raters answered: by item a list of units, of each what every rater said."""

    name: str
    values: tuple[Hashable, ...]
    levels: tuple[Level, ...]
    clusters: list[list[dict[str, Hashable]]]


def questions(
    items: Sequence[AnnotationItem], judgments: Sequence[RaterJudgment], fields: Sequence[Field]
) -> list[RatedQuestion]:
    """Return the choices and the fields with all that was said."""
    votes = by_item(judgments)
    pairs = all(len(item.responses) == 2 for item in items)
    most = max(len(item.responses) for item in items)
    found = []
    for kind in ("pair",) if pairs else ("best", "worst"):
        units = [[_choices(votes[item.id], kind)] for item in items if item.id in votes]
        found.append(RatedQuestion(kind, (TIE, *range(most)), ("nominal",), units))
    for field in fields:
        said = [list(_said(item, votes[item.id], field)) for item in items if item.id in votes]
        levels: tuple[Level, ...] = ("ordinal", "interval") if field.ordered else ("nominal",)
        found.append(RatedQuestion(field.name, field.values, levels, said))
    return found


def _choices(judgments: Sequence[RaterJudgment], kind: str) -> dict[str, Hashable]:
    """Return the index that each rater chose as the best, or the worst, of an item."""
    places = {j.rater: j.choice.worst if kind == "worst" else j.choice.best for j in judgments}
    return {rater: TIE if place is None else place for rater, place in places.items()}


def _said(item: AnnotationItem, judgments: Sequence[RaterJudgment], field: Field) -> Iterator[dict[str, Hashable]]:
    """Yield what was said of each response, by those who said something."""
    for n in range(len(item.responses)):
        said = {j.rater: j.remarks[field.name][n] for j in judgments if field.name in j.remarks}
        yield {rater: value for rater, value in said.items() if value is not None}


def agreements(
    items: Sequence[AnnotationItem], judgments: Sequence[RaterJudgment], fields: Sequence[Field] = ()
) -> list[RaterAgreement]:
    """Return the agreement of every two raters, and of all of them where there are more, on what they all judged."""
    names = list(dict.fromkeys(j.rater for j in judgments))
    groups = list(combinations(names, 2)) + ([tuple(names)] if len(names) > 2 else [])
    found = []
    for question in questions(items, judgments, fields):
        for group in groups:
            shared = [
                [[unit[name] for name in group] for unit in units if all(name in unit for name in group)]
                for units in question.clusters
            ]
            if any(shared):
                found.append(_agreement(group, question, [units for units in shared if units]))
    return found


def alphas(
    items: Sequence[AnnotationItem], judgments: Sequence[RaterJudgment], fields: Sequence[Field] = ()
) -> list[RaterAlpha]:
    """Return Krippendorff's alpha of every question that two raters or more have answered, at the levels it has."""
    found = []
    for question in questions(items, judgments, fields):
        clusters = [[unit for unit in units if len(unit) > 1] for units in question.clusters]
        clusters = [units for units in clusters if units]
        said = [[list(unit.values()) for unit in units] for units in clusters]
        for level in question.levels if said else ():
            interval = alpha_interval(said, question.values, level)
            found.append(RaterAlpha(question.name, level, sum(map(len, said)), interval))
    return found


def _agreement(
    group: tuple[str, ...], question: RatedQuestion, clusters: Sequence[Sequence[Sequence[Hashable]]]
) -> RaterAgreement:
    tables = [_counts(units, question.values, pair=len(group) == 2) for units in clusters]
    size = sum(map(len, clusters))
    same = np.array([(sum(map(_same, units)), len(units)) for units in clusters])
    rate = bootstrap(same, lambda drawn: (drawn[..., 0].sum(axis=-1) / drawn[..., 1].sum(axis=-1))[..., None])[0]
    kappa = bootstrap(np.array(tables), _cohen if len(group) == 2 else _fleiss)[0]
    return RaterAgreement(group, question.name, size, rate, kappa)


def _same(unit: Sequence[Hashable]) -> float:
    """Return the share of pairs of raters who said the same."""
    return float(np.mean([a == b for a, b in combinations(unit, 2)]))


def _counts(units: Sequence[Sequence[Hashable]], values: Sequence[Hashable], *, pair: bool) -> Array:
    """Return what kappa needs of one item: the joint counts of two raters, or the counts of more with their squares."""
    marks = np.array([[[label == known for known in values] for label in unit] for unit in units], dtype=np.float64)
    if pair:
        return np.asarray((marks[:, 0, :, None] * marks[:, 1, None, :]).sum(axis=0).ravel())
    counts = marks.sum(axis=1)
    return np.concatenate((counts.sum(axis=0), [(counts**2).sum(), len(counts)]))


def _cohen(table: Array) -> Array:
    """Return Cohen's kappa from `[..., item, label x label]` counts; `statistics.cohen_kappa` on resamples."""
    size = math.isqrt(table.shape[-1])
    counts = table.sum(axis=-2)
    share = (counts / counts.sum(axis=-1, keepdims=True)).reshape(*table.shape[:-2], size, size)
    observed = np.trace(share, axis1=-2, axis2=-1)
    expected = (share.sum(axis=-1) * share.sum(axis=-2)).sum(axis=-1)
    return np.asarray((observed - expected) / (1 - expected))[..., None]


def _fleiss(table: Array) -> Array:
    """Return Fleiss' kappa from `[..., item, (label, squares, units)]`; `statistics.fleiss_kappa` on resamples."""
    total = table.sum(axis=-2)
    counts, squares, units = total[..., :-2], total[..., -2], total[..., -1]
    raters = counts.sum(axis=-1) / units
    observed = (squares / units - raters) / (raters * (raters - 1))
    expected = ((counts / counts.sum(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    return np.asarray((observed - expected) / (1 - expected))[..., None]
