"""Judgments as training data: rows of `prompt, chosen, rejected`, of `prompt, completions, scores`, or responses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from align.annotation.annotation_store import RaterJudgment
from align.annotation.form import RATING, Field
from align.annotation.items import AnnotationItem
from align.annotation.labellers import Answers
from align.annotation.remarks import mean_ratings, summed
from align.annotation.votes import by_item, mean_outcomes, places

Ties = Literal["drop", "keep", "both"]
Scores = Literal["choices", "ratings"]
Row = dict[str, Any]


class Voted(NamedTuple):
    """The judgments that one row sums up: of all raters of an item, or of one of them."""

    item: AnnotationItem
    judged: list[RaterJudgment]
    id: str
    labellers: Mapping[str, Answers] = MappingProxyType({})
    """By the name of a rater, what they said about themselves; nothing where nobody was asked."""

    @property
    def people(self) -> Row:
        """Return who judged, and what they said about themselves."""
        names = [judged.rater for judged in self.judged]
        return {"raters": names} | (
            {"labellers": [self.labellers.get(name) for name in names]} if self.labellers else {}
        )


class Export(NamedTuple):
    """Rows, and what was left out by reason."""

    rows: list[Row]
    left_out: Counter[str]


def voted(
    items: Sequence[AnnotationItem],
    judgments: Sequence[RaterJudgment],
    labellers: Mapping[str, Answers] = MappingProxyType({}),
    *,
    each: bool,
) -> list[Voted]:
    """Return what becomes rows together: with `each`, every judgment by itself."""
    known = by_item(judgments)
    if not each:
        return [Voted(item, known[item.id], item.id, labellers) for item in items if item.id in known]
    return [Voted(item, [j], f"{item.id}-{j.rater}", labellers) for item in items for j in known.get(item.id, [])]


def pair_rows(votes: Sequence[Voted], ties: Ties, scores: Scores = "choices", fields: Sequence[Field] = ()) -> Export:
    """Return a row for every two responses that were compared, in the messages form that TRL reads too.

    `score_chosen` and `score_rejected` are shares of the votes, a tie counting half for each, or mean ratings, which
    then say what is chosen. A tie is dropped, kept with equal scores, or written in both directions (without scores,
    whose equality would say that it is one).
    """
    left_out: Counter[str] = Counter()
    rows: list[Row] = []
    for vote in votes:
        for pair, found in _compared(vote, scores).items():
            reason = _unfit(vote.item, *pair, found, ties)
            if reason:
                left_out[reason] += 1
            elif math.isnan(sum(found)):
                left_out["without two ratings"] += scores == "ratings"
            else:
                rows.extend(_pairs(vote, pair, found, fields, both=ties == "both"))
    return Export(rows, left_out)


def _compared(vote: Voted, scores: Scores) -> Mapping[tuple[int, int], tuple[float, float]]:
    """Return the score of both of every two responses: shares of the votes, or mean ratings; NaN where not compared."""
    if scores == "choices":
        found = mean_outcomes(vote.item, [judged.choice for judged in vote.judged])
        return {pair: (share, 1 - share) for pair, share in found.items()}
    ratings = [math.nan if rating is None else rating for rating in mean_ratings(vote.item, vote.judged)]
    return {(i, j): (ratings[i], ratings[j]) for i, j in combinations(range(len(ratings)), 2)}


def _unfit(item: AnnotationItem, i: int, j: int, scores: tuple[float, float], ties: Ties) -> str | None:
    if not (item.responses[i].strip() and item.responses[j].strip()):
        return "with an empty response"
    if item.responses[i] == item.responses[j]:
        return "with the same text twice"
    return "tied" if scores[0] == scores[1] and ties == "drop" else None


def _pairs(
    vote: Voted, pair: tuple[int, int], found: tuple[float, float], fields: Sequence[Field], *, both: bool
) -> Iterator[Row]:
    i, j = pair if found[0] >= found[1] else pair[::-1]
    twice = both and found[0] == found[1]
    scores = {} if twice else {"score_chosen": max(found), "score_rejected": min(found)}
    said = summed(vote.item, vote.judged, fields)
    for good, bad in [(i, j), (j, i)] if twice else [(i, j)]:
        yield {
            "id": f"{vote.id}-{good}-{bad}",
            "prompt": list(vote.item.prompt),
            "chosen": _turn(vote.item.responses[good]),
            "rejected": _turn(vote.item.responses[bad]),
            **scores,
            "chosen_from": vote.item.names[good],
            "rejected_from": vote.item.names[bad],
            **vote.people,
            **({"chosen_remarks": said[good], "rejected_remarks": said[bad]} if fields else {}),
        }


def list_rows(votes: Sequence[Voted], ties: Ties, scores: Scores = "choices", fields: Sequence[Field] = ()) -> Export:
    """Return a row for every item, with a score of each response.

    Scores are 1 for the best, 0 for the worst, 0.5 between, as a mean over raters, or mean ratings.
    """
    left_out: Counter[str] = Counter()
    rows = []
    for vote in votes:
        item = vote.item
        found = (
            places(item, [j.choice for j in vote.judged]) if scores == "choices" else mean_ratings(item, vote.judged)
        )
        kept = [i for i, text in enumerate(item.responses) if text.strip() and found[i] is not None]
        if len(kept) < 2:
            rated = "" if scores == "choices" else " and rated"
            left_out[f"with fewer than two responses that are not empty{rated}"] += 1
        elif ties == "drop" and len({found[i] for i in kept}) == 1:
            left_out["tied"] += 1
        else:
            said = summed(item, vote.judged, fields)
            rows.append(
                {
                    "id": vote.id,
                    "prompt": list(item.prompt),
                    "completions": [item.responses[i] for i in kept],
                    "scores": [found[i] for i in kept],
                    "origins": [item.names[i] for i in kept],
                    **vote.people,
                    **({"remarks": [said[i] for i in kept]} if fields else {}),
                }
            )
    return Export(rows, left_out)


def response_rows(votes: Sequence[Voted], fields: Sequence[Field]) -> Export:
    """Return a row for every response of an item, with its mean rating, which reward models are trained on."""
    left_out: Counter[str] = Counter()
    rows = []
    for vote in votes:
        item, said = vote.item, summed(vote.item, vote.judged, fields)
        for n, text in enumerate(item.responses):
            if not text.strip() or said[n][RATING] is None:
                left_out["without a rating" if text.strip() else "with an empty response"] += 1
                continue
            rows.append(
                {
                    "id": f"{vote.id}-{n}",
                    "prompt": list(item.prompt),
                    "completion": text,
                    "rating": said[n][RATING],
                    "completion_from": item.names[n],
                    **vote.people,
                    "remarks": said[n],
                }
            )
    return Export(rows, left_out)


def _turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
