"""For every position of a packed row which part it stands in, which prompt that goes on from, and how far in it is."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from align.scoring.placement import Bounds, Ints

ALONE = -1
"""The parent of a part that goes on from no other."""


class RowPart(NamedTuple):
    """A run of positions that see themselves causally, and all of their prompt."""

    start: int
    stop: int
    prompt: tuple[int, int] | None
    """Where the prompt begins and ends that this response goes on from; None for all else."""
    parent: int
    """Number of the part that is this prompt."""

    @property
    def before(self) -> int:
        """Return the tokens of the prompt."""
        return 0 if self.prompt is None else self.prompt[1] - self.prompt[0]


class RowMarks(NamedTuple):
    """Marks of every position."""

    segment: Int[Ints, " position"]
    parent: Int[Ints, " position"]
    """Segment of the prompt, `ALONE` where there is none."""
    position: Int[Ints, " position"]
    """Tokens before it in its candidate."""


def parts_of(bounds: Bounds) -> Iterator[RowPart]:
    """Yield the parts of a row in their order: prompts, responses of these, rows of their own."""
    prompts = list(itertools.pairwise(bounds.prompts))
    for start, stop in prompts:
        yield RowPart(start, stop, None, ALONE)
    after = bounds.prompts[-1]
    for start, stop in itertools.pairwise(bounds.rows):
        if start >= bounds.trees[-1]:
            yield RowPart(after + start, after + stop, None, ALONE)
            continue
        parent = bisect.bisect_right(bounds.trees, start) - 1
        yield RowPart(after + start, after + stop, prompts[parent], parent)


def marks_of(bounds: Bounds) -> RowMarks:
    """Return the marks of a row."""
    size = bounds.prompts[-1] + bounds.rows[-1]
    marks = RowMarks(*(np.zeros(size, np.int64) for _ in RowMarks._fields))
    for number, part in enumerate(parts_of(bounds)):
        own = slice(part.start, part.stop)
        marks.segment[own], marks.parent[own] = number, part.parent
        marks.position[own] = np.arange(part.before, part.before + part.stop - part.start)
    return marks
