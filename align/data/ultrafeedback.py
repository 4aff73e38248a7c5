"""UltraFeedback (Cui et al. 2023, arXiv:2310.01377): four rated completions per instruction, raw or as pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from align.data.columns import example_of
from align.data.fields import field
from align.data.list_rows import rank_by_score
from align.data.module import PreferenceDataModule
from align.data.readers import Located
from align.data.source import DroppedRow, Report, Source
from align.errors import DataError
from align.records import Example, Message, Scale

ASPECTS = ("instruction_following", "truthfulness", "honesty", "helpfulness")
RankingScore = Literal["mean", "overall_score"]


class UltraFeedback(Source):
    """Reads raw rows (`instruction`, `completions`) and binarized ones (`prompt`, `chosen`, `rejected`)."""

    def __init__(self, path: str, *, ranking_score: RankingScore = "mean", **options: Any) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id.
            ranking_score: What raw completions are ranked by: the mean of the rated aspects, or the overall score,
                which an early release got wrong for 2628 completions.
            options: See Source.
        """
        super().__init__(path, **options)
        self.ranking_score = ranking_score

    @property
    def kind(self) -> str:
        """Return the prefix its labels have beside those of other datasets."""
        return "uf"

    @property
    def scales(self) -> Mapping[str, Scale]:
        """Return the grades annotators chose from."""
        return {"overall_score": Scale(1, 10), **dict.fromkeys(ASPECTS, Scale(1, 5))}

    def parse(self, rows: Iterable[Located], report: Report) -> Iterator[Example]:
        """Read each row by its columns."""
        for located in rows:
            name = located.where.removeprefix(self.path).lstrip("/, ")
            try:
                raw = "completions" in located.row and "instruction" in located.row
                yield self._raw(located, name) if raw else example_of(located, self.name, name)
            except DroppedRow as reason:
                report.drop(str(reason), name)

    def _raw(self, located: Located, name: str) -> Example:
        completions = [Located(located.where, c) for c in field(located, "completions", list)]
        if not completions:
            raise DroppedRow("no completions")
        aspects = [[_rating(c, aspect) for aspect in ASPECTS] for c in completions]
        overall = [_number(c, "overall_score", c.row.get("overall_score"), 10) for c in completions]
        ranked = overall if self.ranking_score == "overall_score" else [_mean(a) for a in aspects]
        usable = [i for i, score in enumerate(ranked) if not math.isnan(score)]
        ranking = rank_by_score([ranked[i] for i in usable])
        scores = [(o, *a) for o, a in zip(overall, aspects, strict=True)]
        kept = usable if len(usable) >= 2 else list(range(len(completions)))
        return Example(
            id=name,
            messages=(Message("user", field(located, "instruction")),),
            responses=tuple(field(completions[i], "response") for i in kept),
            attributes=("overall_score", *ASPECTS),
            scores=tuple(scores[i] for i in kept),
            ranking=ranking if len(usable) >= 2 else (),
            origins=tuple(str(completions[i].row.get("model", "")) for i in kept),
            source=self.name,
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
    except (TypeError, ValueError):
        number = math.inf
    if not 1 <= number <= highest:
        raise DataError(f"{completion.where}: rating of {key!r} is {value!r}, expected 1 to {highest} or N/A")
    return number


def _mean(ratings: list[float]) -> float:
    known = [r for r in ratings if not math.isnan(r)]
    return sum(known) / len(known) if known else math.nan


class UltraFeedbackDataModule(PreferenceDataModule):
    """Serves UltraFeedback."""

    def __init__(
        self, path: str, max_samples: int | None = None, *, ranking_score: RankingScore = "mean", **options: Any
    ) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id (openbmb/UltraFeedback, HuggingFaceH4/ultrafeedback_binarized).
            max_samples: Use at most this many prompts of each split, chosen by a hash of their ids.
            ranking_score: What raw completions are ranked by, the mean of the rated aspects or the overall score.
            options: See PreferenceDataModule.
        """
        super().__init__([UltraFeedback(path, ranking_score=ranking_score, max_samples=max_samples)], **options)
