"""How many positions a model computes for groups: what a budget of tokens is compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from align.data.extents import Extents
from align.records import RowLayout


class Positions(NamedTuple):
    """What groups take of a batch: it has as many positions as they have rows, times the largest width of any.

    A layout without padding is one of width 1, in which every token is a row.
    """

    rows: np.ndarray
    widths: np.ndarray
    apart: np.ndarray
    """Whether a group is too long for the layout of the others, and so never in a batch with them."""

    @classmethod
    def of(cls, extents: Extents, layout: RowLayout) -> Positions:
        """Return the positions of groups in a layout."""
        apart = extents.longest > layout.longest
        rows, widths = {
            "packed": (extents.tokens, np.ones_like(extents.tokens)),
            "shared": (extents.prompts, extents.widest),
            "padded": (extents.candidates, extents.longest),
        }[layout.name]
        return cls(np.where(apart, extents.candidates, rows), np.where(apart, extents.longest, widths), apart)

    @property
    def alone(self) -> np.ndarray:
        """Return how many each group takes by itself."""
        taken: np.ndarray = self.rows * self.widths
        return taken

    def together(self, places: list[int]) -> int:
        """Return how many positions one batch of these groups has."""
        return int(self.rows[places].sum() * self.widths[places].max())


def oversized(positions: Positions, budget: int) -> str | None:
    """Return a warning of groups that exceed a budget by themselves, None where there are none."""
    alone = positions.alone
    if (number := int((alone > budget).sum())) == 0:
        return None
    groups = f"{number} of {len(alone)} groups take" if number > 1 else f"1 of {len(alone)} groups takes"
    return (
        f"WARNING {groups} more positions than data.batching.tokens {budget}, the largest {alone.max()}: each is "
        "computed by itself, and needs memory for all of it"
    )
