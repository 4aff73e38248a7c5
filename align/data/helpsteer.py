"""HelpSteer: responses rated 0 to 4 on five attributes (versions 1 and 2), and pairs with a strength (2 and 3).

HelpSteer (Wang et al. 2023, arXiv:2311.09528), HelpSteer2 (arXiv:2406.08673), HelpSteer2-Preference (arXiv:2410.01257),
HelpSteer3-Preference (arXiv:2505.11475).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from align.data.fields import field, messages_of
from align.data.list_rows import rank_by_score
from align.data.module import PreferenceDataModule
from align.data.readers import Located
from align.data.source import DroppedRow, Report, Source
from align.errors import ConfigError, DataError
from align.records import Example, Message, Scale

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
PREFERENCES = {"overall_preference": ("response1", "response2"), "preference_strength": ("response_1", "response_2")}
"""Strength from -3 (the first response is much better) to 3 (the second is), and the columns it compares."""


class HelpSteer(Source):
    """Reads attribute rows, grouped by prompt, and preference rows."""

    def __init__(self, path: str, *, rank_by: Sequence[str] = ("helpfulness",), **options: Any) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id.
            rank_by: Attributes whose mean ranks the responses of a prompt.
            options: See Source.
        """
        super().__init__(path, **options)
        if not rank_by or set(rank_by) - set(ATTRIBUTES):
            raise ConfigError(f"rank_by must be some of {', '.join(ATTRIBUTES)}, got {', '.join(rank_by) or 'none'}")
        self.rank_by = tuple(rank_by)

    @property
    def kind(self) -> str:
        """Return the prefix its labels have beside those of other datasets."""
        return "hs"

    @property
    def scales(self) -> Mapping[str, Scale]:
        """Return the grades annotators chose from."""
        return {**dict.fromkeys(ATTRIBUTES, Scale(0, 4)), "strength": Scale(0, 3)}

    def parse(self, rows: Iterable[Located], report: Report) -> Iterator[Example]:
        """Read preference rows one by one, and attribute rows grouped by prompt over the whole split."""
        groups: dict[str, list[Located]] = {}
        for located in rows:
            strength = next((key for key in PREFERENCES if key in located.row), None)
            if strength is None:
                groups.setdefault(field(located, "prompt"), []).append(located)
                continue
            try:
                yield self._pair(located, strength)
            except DroppedRow as reason:
                report.drop(str(reason), located.where)
        report.read -= sum(len(group) - 1 for group in groups.values())  # an example is a prompt with its responses
        for prompt, group in groups.items():
            yield self._rated(prompt, group)

    def _name(self, located: Located) -> str:
        return located.where.removeprefix(self.path).lstrip("/, ")

    def _pair(self, located: Located, key: str) -> Example:
        strength = field(located, key, (int, float))
        if not -3 <= strength <= 3:
            raise DataError(f"{located.where}: {key!r} is {strength}, expected -3 to 3")
        context = located.row.get("context")
        if context is None:
            messages = [Message("user", field(located, "prompt"))]
        else:
            messages = messages_of(located.where, field(located, "context", list))
        if not messages or messages[-1].role != "user":
            raise DroppedRow("context does not end with a user turn")
        scores = (float(max(-strength, 0)), float(max(strength, 0)))
        return Example(
            id=self._name(located),
            messages=tuple(messages),
            responses=tuple(field(located, column) for column in PREFERENCES[key]),
            attributes=("strength",),
            scores=tuple((s,) for s in scores),
            ranking=rank_by_score(scores),
            source=self.name,
        )

    def _rated(self, prompt: str, group: list[Located]) -> Example:
        scores = [tuple(_rating(located, attribute) for attribute in ATTRIBUTES) for located in group]
        columns = [ATTRIBUTES.index(name) for name in self.rank_by]
        totals = [sum(row[c] for c in columns) / len(columns) for row in scores]
        known = not any(map(math.isnan, totals))
        return Example(
            id=self._name(group[0]),
            messages=(Message("user", prompt),),
            responses=tuple(field(located, "response") for located in group),
            attributes=ATTRIBUTES,
            scores=tuple(scores),
            ranking=rank_by_score(totals) if known else (),
            source=self.name,
        )


def _rating(located: Located, attribute: str) -> float:
    if located.row.get(attribute) is None:
        return math.nan
    value = field(located, attribute, (int, float))
    if not 0 <= value <= 4:
        raise DataError(f"{located.where}: {attribute!r} is {value}, expected 0 to 4")
    return float(value)


class HelpSteerDataModule(PreferenceDataModule):
    """Serves HelpSteer attribute rows and preference pairs."""

    def __init__(
        self,
        path: str,
        max_samples: int | None = None,
        *,
        rank_by: Sequence[str] = ("helpfulness",),
        **options: Any,
    ) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id (nvidia/HelpSteer, nvidia/HelpSteer2, nvidia/HelpSteer3).
            max_samples: Use at most this many prompts of each split, chosen by a hash of their ids.
            rank_by: Attributes whose mean ranks the responses of a prompt.
            options: See PreferenceDataModule.
        """
        super().__init__([HelpSteer(path, rank_by=rank_by, max_samples=max_samples)], **options)
