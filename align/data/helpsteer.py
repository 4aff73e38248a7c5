"""HelpSteer: responses rated 0 to 4 on five attributes (versions 1 and 2), and pairs with a strength (2 and 3).

HelpSteer (Wang et al. 2023, arXiv:2311.09528), HelpSteer2 (arXiv:2406.08673), HelpSteer2-Preference (arXiv:2410.01257),
HelpSteer3-Preference (arXiv:2505.11475).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from align.data.column_layouts import ATTRIBUTES
from align.data.data_module import PreferenceDataModule
from align.data.drop_report import DroppedRow, Report, RowError
from align.data.keeping_source import KeepingSource
from align.data.list_rows import rank_by_score
from align.data.markup import marked_prompt
from align.data.readers import Located
from align.data.released import STRENGTHS, rated_pair
from align.data.row_parts import EVERYWHERE, example_of
from align.data.row_validation import field, number
from align.errors import ConfigError
from align.records import Example, Message, Scale

__all__ = ["ATTRIBUTES", "HelpSteer", "HelpSteerDataModule"]
RATED = {"prompt", "response", *ATTRIBUTES}
COMPARED = EVERYWHERE.union({"prompt", "context"}, STRENGTHS, *STRENGTHS.values())
"""Columns that are read of a rated response, and of two compared ones."""


class HelpSteer(KeepingSource):
    """Reads attribute rows, grouped by prompt, and preference rows."""

    by_row = False

    def __init__(self, path: str, *, rank_by: Sequence[str] = ("helpfulness",), **options: Any) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id.
            rank_by: Attributes whose mean ranks the responses of a prompt.
            options: See KeepingSource.
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
        groups: dict[str, list[tuple[Located, list[float]]]] = {}
        for located in self.check_rows(iter(rows)):
            compared = any(located.row.get(key) is not None for key in STRENGTHS)
            for name in located.row.keys() - (COMPARED if compared else RATED) - {*self._kept}:
                report.unused.setdefault(str(name), self.place(located))
            try:
                if compared:
                    made = example_of(located, rated_pair(located), self.place(located), self.name)
                    yield self.keeping([located], made)
                else:
                    grades = [_rating(located, attribute) for attribute in ATTRIBUTES]
                    field(located, "response")
                    groups.setdefault(field(located, "prompt"), []).append((located, grades))
            except (DroppedRow, RowError) as error:
                report.refuse(error, located.where, self.place(located))
        report.read -= sum(len(group) - 1 for group in groups.values())  # an example is a prompt with its responses
        for prompt, group in groups.items():
            yield self.keeping([located for located, _ in group], self._rated(prompt, group))

    def _rated(self, prompt: str, group: list[tuple[Located, list[float]]]) -> Example:
        columns = [ATTRIBUTES.index(name) for name in self.rank_by]
        totals = [sum(grades[c] for c in columns) / len(columns) for _, grades in group]
        known, found = not any(map(math.isnan, totals)), marked_prompt(prompt)
        return Example(
            id=self.place(group[0][0]),
            messages=tuple(found.turns if found else [Message("user", prompt)]),
            responses=tuple(located.row["response"] for located, _ in group),
            attributes=ATTRIBUTES,
            scores=tuple(tuple(grades) for _, grades in group),
            ranking=rank_by_score(totals) if known else (),
            source=self.name,
        )


def _rating(located: Located, attribute: str) -> float:
    value = number(located.where, f"{attribute!r}", located.row.get(attribute))
    if value < 0 or value > 4:
        detail = f"{attribute!r} is {located.row[attribute]}, expected 0 to 4"
        raise RowError(located.where, f"{attribute!r} is out of range", detail)
    return value


class HelpSteerDataModule(PreferenceDataModule):
    """Serves HelpSteer attribute rows and preference pairs."""

    def __init__(
        self,
        path: str,
        max_samples: int | None = None,
        *,
        rank_by: Sequence[str] = ("helpfulness",),
        keep_columns: list[str] | None = None,
        **options: Any,
    ) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id (nvidia/HelpSteer, nvidia/HelpSteer2, nvidia/HelpSteer3).
            max_samples: Use at most this many prompts of each split, chosen by a hash of their ids.
            rank_by: Attributes whose mean ranks the responses of a prompt.
            keep_columns: Columns for reward functions, such as `[answer]`.
            options: See PreferenceDataModule.
        """
        source = HelpSteer(path, rank_by=rank_by, max_samples=max_samples, keep_columns=keep_columns or ())
        super().__init__([source], **options)
