"""How far the raters of a group agree with each other, by what they said about themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from align.annotation.annotation_store import RaterJudgment
from align.annotation.form import Field
from align.annotation.items import AnnotationItem
from align.annotation.labellers import Answers
from align.annotation.rater_agreement import RaterAlpha, alphas

ENOUGH = 10
"""Things that two raters of a group must have rated before its agreement is shown."""


class GroupAlpha(NamedTuple):
    """Krippendorff's alpha of the raters who gave one answer about themselves."""

    asked: str
    """Name of the question about the rater."""
    answer: str
    raters: int
    found: RaterAlpha


def group_alphas(
    items: Sequence[AnnotationItem],
    judgments: Sequence[RaterJudgment],
    fields: Sequence[Field],
    questions: Sequence[Field],
    labellers: Mapping[str, Answers],
) -> tuple[list[GroupAlpha], list[str]]:
    """Return agreement within every group, and the groups that have judged but with too few labels for it.

    Groups are the values of questions with values: free text, such as an identifier, makes none.
    """
    shown, few = list[GroupAlpha](), list[str]()
    for question in questions:
        for value in question.values:
            own = [j for j in judgments if labellers.get(j.rater, {}).get(question.name) == value]
            raters = len({j.rater for j in own})
            found = [alpha for alpha in alphas(items, own, fields) if alpha.items >= ENOUGH]
            shown += [GroupAlpha(question.name, str(value), raters, alpha) for alpha in found]
            few += [f"{question.name} {value}"] if own and not found else []
    return shown, few
