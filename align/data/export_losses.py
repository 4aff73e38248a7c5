"""What the field's columns have no place for, told when rows are exported."""

from __future__ import annotations

import math
from collections.abc import Iterator

from align.records import Example


def lost_scores(example: Example) -> Iterator[str]:
    """Yield what becomes of scores beside the one that has a column."""
    kept = score_name(example)
    if others := [name for name in example.attributes if name != kept]:
        yield f"these scores are left out, since there is one column for scores: {', '.join(others)}"
    if kept not in (None, "score"):
        yield f"{kept} is written as the score"


def lost_of_pair(example: Example) -> Iterator[str]:
    """Yield what a pair loses: other scores, and a tie."""
    yield from lost_scores(example)
    scores = scores_of(example)
    if scores and scores[0] == scores[1]:
        yield "equal scores are left out, since chosen and rejected are not tied"


def lost_turns(example: Example) -> Iterator[str]:
    """Yield what a single response loses of a dialogue that is learnt whole."""
    if example.whole and any(m.role == "assistant" for m in example.messages):
        yield "earlier assistant turns become prompt, which nobody learns: --view dialogues keeps them"


def lost_prompt(example: Example) -> Iterator[str]:
    """Yield what a dialogue loses of a response without a prompt of its own."""
    if not example.whole and any(m.role == "assistant" for m in example.messages):
        yield "earlier assistant turns, which are not to be learnt, have weight 0, which other programs may not read"


def score_name(example: Example) -> str | None:
    """Return the score that goes into a column for one score: the one so called, or the only one."""
    names = [name for name in example.attributes if name != "desirable"]
    return "score" if "score" in names else names[0] if len(names) == 1 else None


def scores_of(example: Example) -> list[float | None] | None:
    """Return the scores of that column, None where none is known."""
    name = score_name(example)
    if name is None or not example.scores:
        return None
    column = example.attributes.index(name)
    found = [None if math.isnan(row[column]) else row[column] for row in example.scores]
    return found if any(value is not None for value in found) else None
