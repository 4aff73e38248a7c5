"""Which responses of an example can be trained on, and the example with some of them only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from align.data.drop_report import DroppedRow, LeftOut
from align.data.row_validation import turn_fault
from align.records import Example, Message


def select(example: Example, order: Sequence[int], ranks: Sequence[int], suffix: str = "") -> Example:
    """Return the example with the given responses only, in that order and with those ranks."""
    by_rank = tuple(tuple(i for i, r in enumerate(ranks) if r == rank) for rank in sorted(set(ranks)))
    whole = not example.contexts and len(order) == len(example.responses)
    if whole and not suffix and by_rank == example.ranking and tuple(order) == tuple(range(len(order))):
        return example
    contexts = tuple(example.context(i) for i in order)
    return replace(
        example,
        id=example.id + suffix,
        messages=contexts[0] if contexts else example.messages,
        responses=tuple(example.responses[i] for i in order),
        scores=tuple(example.scores[i] for i in order) if example.scores else (),
        origins=tuple(example.origins[i] for i in order) if example.origins else (),
        answers=tuple(example.answers[i] for i in order) if example.answers else (),
        response_ids=tuple(example.response_ids[i] for i in order) if example.response_ids else (),
        contexts=contexts if len(set(contexts)) > 1 else (),
        ranking=by_rank,
    )


def fault_of(example: Example, response: int) -> str | None:
    """Return why a response cannot be trained on, or None."""
    return turn_fault(example.answer(response))


def usable(example: Example) -> list[int]:
    """Return the responses that can be trained on, best first: readable, not empty, each text once."""
    if not example.responses:
        raise DroppedRow("no response")
    ranks = example.ranks or (0,) * len(example.responses)
    order = sorted(range(len(ranks)), key=ranks.__getitem__)
    turns = example.turns
    faults = [turn_fault(turns[i]) for i in order]
    known: set[tuple[Message, ...]] = set()
    kept = []
    for i, fault in zip(order, faults, strict=True):
        said = (*example.contexts[i], turns[i]) if example.contexts else (turns[i],)
        if fault is None and said not in known:
            kept.append(i)
        known.add(said)
    if len(kept) < min(2, len(order)):
        raise DroppedRow(next((f for f in faults if f), "identical responses"))
    return kept


def desirable(example: Example, order: list[int]) -> list[int]:
    """Return the responses of `order` that nobody has labelled undesirable."""
    if "desirable" not in example.attributes:
        return order
    column = example.attributes.index("desirable")
    kept = [i for i in order if example.scores[i][column] != 0]
    if not kept:
        raise LeftOut("undesirable response, which is not trained on")
    return kept
