"""Raw rows of UltraFeedback (Cui et al. 2023, arXiv:2310.01377): completions of an instruction, rated by aspect."""

from __future__ import annotations

import math
from typing import Literal

from align.data.drop_report import DroppedRow, RowError
from align.data.list_rows import rank_by_score
from align.data.readers import Located
from align.data.row_parts import RowParts, prompt_of, said
from align.data.row_validation import field

ASPECTS = ("instruction_following", "truthfulness", "honesty", "helpfulness")
RankingScore = Literal["mean", "overall_score"]


def raw_row(located: Located, ranking_score: RankingScore = "mean") -> RowParts:
    """Rank the completions by the mean of their rated aspects, or by the overall score.

    Fewer than two usable completions make no ranking. An early release has a wrong overall score for 2628.
    """
    completions = [Located(located.where, c) for c in field(located, "completions", list)]
    if not completions:
        raise DroppedRow("no completions")
    aspects = [[_rating(c, aspect) for aspect in ASPECTS] for c in completions]
    overall = [_number(c, "overall_score", c.row.get("overall_score"), 10) for c in completions]
    ranked = overall if ranking_score == "overall_score" else [_mean(a) for a in aspects]
    usable = [i for i, score in enumerate(ranked) if not math.isnan(score)]
    kept = usable if len(usable) >= 2 else list(range(len(completions)))
    columns = [overall, *map(list, zip(*aspects, strict=True))]
    return RowParts(
        prompt_of(located, "instruction"),
        [said(field(completions[i], "response")) for i in kept],
        {n: [c[i] for i in kept] for n, c in zip(("overall_score", *ASPECTS), columns, strict=True)},
        rank_by_score([ranked[i] for i in usable]) if len(usable) >= 2 else (),
        [str(completions[i].row.get("model", "")) for i in kept],
    )


def _rating(completion: Located, aspect: str) -> float:
    """Return an aspect's rating, NaN where it is missing or "N/A"; some releases wrap it in a list of one."""
    annotations = completion.row.get("annotations") or {}
    entry = annotations.get(aspect)
    if isinstance(entry, list):
        entry = entry[0] if entry else None
    return _number(completion, aspect, entry.get("Rating") if isinstance(entry, dict) else None, 5)


def _number(completion: Located, key: str, value: object, highest: int) -> float:
    if value in (None, "N/A"):
        return math.nan
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if not 1 <= number <= highest:
        detail = f"rating of {key!r} is {value!r}, expected 1 to {highest} or N/A"
        raise RowError(completion.where, f"rating of {key!r} is out of range", detail)
    return number


def _mean(ratings: list[float]) -> float:
    known = [r for r in ratings if not math.isnan(r)]
    return sum(known) / len(known) if known else math.nan
