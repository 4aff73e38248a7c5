"""Views: what one method trains on, made from examples. Every view drops what it cannot use and says why."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from align.data.drop_report import DroppedRow, LeftOut, Report
from align.data.encoded_groups import GroupTable
from align.data.own_code import own_code
from align.data.row_validation import hashed
from align.data.selection import desirable, fault_of, select, usable
from align.records import Example, Instructions
from align.records.asking import Scores


class View(ABC):
    """Makes one or more training groups of an example. Candidates of a group stand best first."""

    drawn_in_rounds: ClassVar[bool] = False
    """Whether a row of the data is its prompt, whose responses rounds draw."""

    @abstractmethod
    def groups(self, example: Example) -> Iterable[Example]:
        """Return the groups of an example. Raises DroppedRow when it has none."""

    def asks(self, tables: Sequence[GroupTable]) -> Instructions | Scores | None:
        """Return what puts a prompt as a model trained on these groups has to be asked; None for the prompt alone."""
        return None

    def __repr__(self) -> str:
        """Return class and settings; those of a dataclass write their own."""
        return f"{type(self).__name__}({vars(self)})"

    @property
    def fingerprint(self) -> str:
        """Return what decides the groups: class, settings, and the code of a class of a user's own."""
        return repr(self) + own_code(type(self))

    def apply(self, examples: Iterable[Example], report: Report) -> list[Example]:
        """Return the groups of all examples, counting kept and dropped."""
        kept = [group for example in examples for group in self.made(example, report)]
        report.kept = len(kept)
        return kept

    def made(self, example: Example, report: Report) -> list[Example]:
        """Return the groups of an example, none where it is dropped, which is counted."""
        try:
            return list(self.groups(example))
        except DroppedRow as reason:
            report.drop(str(reason), example.id, odd=not (example.among or isinstance(reason, LeftOut)))
            return []


@dataclass(frozen=True)
class Pairs(View):
    """Chosen and rejected: all strictly ordered pairs, or the best response against one other."""

    selection: Literal["best_random", "best_worst", "all"] = "best_random"
    """Which pairs to take of more than two responses; `best_random` draws the other by a hash of the id."""

    def groups(self, example: Example) -> Iterable[Example]:
        """Return groups of two. Tied pairs are never made."""
        order, ranks = _ranked(example)
        pairs = [(a, b) for a, b in itertools.combinations(order, 2) if ranks[a] < ranks[b]]
        if not pairs:
            raise LeftOut("tied responses")
        if self.selection == "all":
            return [select(example, pair, (0, 1), f"#{n}" if len(pairs) > 1 else "") for n, pair in enumerate(pairs)]
        best = [pair for pair in pairs if pair[0] == order[0]]
        drawn = hashed(example.id) % len(best) if self.selection == "best_random" and len(best) > 1 else -1
        return [select(example, best[drawn], (0, 1))]


@dataclass(frozen=True)
class RankedLists(View):
    """All responses of a prompt in order, ties kept as equal ranks; at least two different ranks."""

    max_responses: int | None = None
    """Keep only the first this many of each list."""

    def __post_init__(self) -> None:
        if self.max_responses is not None and self.max_responses < 2:
            raise ValueError(f"max_responses must be at least 2, got {self.max_responses}")

    def groups(self, example: Example) -> Iterable[Example]:
        """Return one group."""
        order, ranks = _ranked(example)
        order = order[: self.max_responses]
        levels = sorted({ranks[i] for i in order})
        if len(levels) < 2:
            raise LeftOut("tied responses")
        return [select(example, order, [levels.index(ranks[i]) for i in order])]


@dataclass(frozen=True)
class Singles(View):
    """One response each, for supervised fine-tuning."""

    responses: Literal["best", "worst", "random", "all"] = "best"
    """One response of each prompt (`random` draws it by a hash of the id), or every usable one as a row of its own."""

    def groups(self, example: Example) -> Iterable[Example]:
        """Return groups of one."""
        order = [i for i in range(len(example.responses)) if fault_of(example, i) is None]
        if not order:
            raise DroppedRow("empty response" if example.responses else "no response")
        order = desirable(example, order)
        if self.responses == "all":
            return [select(example, [i], [0], f"#{i}" if len(order) > 1 else "") for i in order]
        if self.responses == "random":
            return [select(example, [order[hashed(example.id) % len(order)]], [0])]
        if len(example.responses) > 1 and not example.ranking:
            raise DroppedRow("no ranking says which response is best")
        if self.responses == "worst":
            if len(example.ranking) < 2:
                raise DroppedRow("no worse response")
            return [select(example, [max(order, key=lambda i: example.ranks[i])], [0])]
        best = min(order, key=lambda i: (example.ranks or (0,))[i])
        if example.ranking and best not in example.ranking[0]:
            raise DroppedRow(fault_of(example, example.ranking[0][0]) or "empty response")
        return [select(example, [best], [0])]


@dataclass(frozen=True)
class PromptsOnly(View):
    """The prompt alone, once per different prompt."""

    def groups(self, example: Example) -> Iterable[Example]:
        """Return a group without responses."""
        return [select(example, [], [])]


@dataclass(frozen=True)
class RegressionRows(View):
    """One response with at least one known score per row."""

    def groups(self, example: Example) -> Iterable[Example]:
        """Return groups of one."""
        known = [i for i, row in enumerate(example.scores) if not all(map(math.isnan, row))]
        rows = [i for i in known if fault_of(example, i) is None]
        if not rows:
            raise DroppedRow("empty response" if known else "no scores")
        return [select(example, [i], [0], f"#{i}" if len(example.responses) > 1 else "") for i in rows]


@dataclass(frozen=True)
class Unpaired(View):
    """One response per row with the score `desirable`, 1 or 0: the ends of a ranking, or labelled rows."""

    def groups(self, example: Example) -> Iterable[Example]:
        """Return groups of one whose only score is the label."""
        if "desirable" in example.attributes:
            column = example.attributes.index("desirable")
            labels = {i: row[column] for i, row in enumerate(example.scores)}
        elif len(example.ranking) > 1:
            labels = dict.fromkeys(example.ranking[0], 1.0) | dict.fromkeys(example.ranking[-1], 0.0)
        else:
            raise DroppedRow("no label")
        rows = [i for i in labels if fault_of(example, i) is None]
        if not rows:
            raise DroppedRow("empty response")
        bare = replace(
            example,
            attributes=("desirable",),
            scores=tuple((labels.get(i, math.nan),) for i in range(len(example.responses))),
        )
        return [select(bare, [i], [0], f"#{i}" if len(example.responses) > 1 else "") for i in rows]


def _ranked(example: Example) -> tuple[list[int], tuple[int, ...]]:
    """Return usable responses best first and the ranks of all; needs a ranking of at least two responses."""
    if len(example.responses) < 2:
        raise DroppedRow("fewer than two responses")
    if not example.ranking:
        raise DroppedRow("no ranking")
    return usable(example), example.ranks
