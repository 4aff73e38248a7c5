"""Rows with win rates, which SPPO regresses on: those of rounds or of a file, else those of the data's own order."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from align.data.drop_report import DroppedRow
from align.data.selection import usable
from align.data.views import RegressionRows
from align.records import Example


@dataclass(frozen=True)
class WinRateRows(RegressionRows):
    """One response per row with its win rate among the responses of its prompt (Wu et al. 2024, arXiv:2405.00675)."""

    order: Literal["where_needed", "always"] = "where_needed"
    """When the labelled order makes the win rates, 1 over each response below and 1/2 over equals and itself: where
    there is not one score alone, or also in the place of that. Samples of rounds always keep theirs."""

    def groups(self, example: Example) -> Iterable[Example]:
        """Return groups of one."""
        drawn = bool(example.origins) and all(origin.startswith("policy@") for origin in example.origins)
        if not drawn and (self.order == "always" or len(example.attributes) != 1):
            example = _by_order(example)
        return super().groups(example)


def _by_order(example: Example) -> Example:
    if not example.ranking:
        raise DroppedRow("no order of responses that would give win rates")
    kept, ranks, rates = usable(example), example.ranks, [math.nan] * len(example.responses)
    for one in kept:
        won = [(1 + (ranks[one] < ranks[other]) - (ranks[one] > ranks[other])) / 2 for other in kept]
        rates[one] = sum(won) / len(won)
    return replace(example, attributes=("reward",), scores=tuple((rate,) for rate in rates))
