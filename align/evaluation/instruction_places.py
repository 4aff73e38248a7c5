"""Where the instructions of annotations stand in AlpacaEval's set, by which its table of difficulties knows them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from align.errors import DataError, shorten
from align.evaluation.alpaca_eval import Annotated
from align.evaluation.answer_files import read_alpaca_instructions
from align.evaluation.length_control import Gamed, length_controlled

KNOWN = ("80812b0556445b68", "8a362c893a6ecb10")
"""Hashes of AlpacaEval's 805 instructions in their order, and of the same sorted."""


def read_order(path: Path, gamed: Gamed) -> list[str]:
    """Return the instructions of a file in its order. Raises DataError where the table belongs to other ones."""
    order = [instruction for instruction, _ in read_alpaca_instructions(path)]
    if len(order) != len(gamed.difficulty):
        raise DataError(
            f"{path} has {len(order)} instructions and the table of difficulties {len(gamed.difficulty)}: length "
            "control needs the whole evaluation set in its order. Annotate without --difficulty, then name the "
            "annotations with the whole set in --baseline"
        )
    return order


def places_of(instructions: Sequence[str], order: Sequence[str] | None, gamed: Gamed) -> list[int]:
    """Return the place of each annotation in the evaluation set, by its instruction, or as they stand.

    The table knows instructions by their place alone, so that a file which lacks some, or has another order, would be
    given other instructions' difficulties: as the package does, without a word.

    Args:
        instructions: Those of the annotations.
        order: All instructions of the evaluation set, in its order; null where the annotations are all of them.
        gamed: The published table.
    """
    if order is None:
        if len(instructions) != len(gamed.difficulty):
            raise DataError(
                f"the table of difficulties has {len(gamed.difficulty)} instructions and there are {len(instructions)} "
                "annotations, so that their places are not known: name a file with all instructions in their order "
                "in --baseline"
            )
        in_order, together = (_hash(texts) for texts in (instructions, sorted(instructions)))
        if together == KNOWN[1] and in_order != KNOWN[0]:
            raise DataError(
                "the annotations are of AlpacaEval's instructions in another order than the set's, by which the table "
                "of difficulties knows them: name a file with all in their order in --baseline, such as the outputs of "
                "any model of its leaderboard"
            )
        return list(range(len(instructions)))
    known = {text: place for place, text in enumerate(order)}
    if lost := [text for text in instructions if text not in known]:
        raise DataError(
            f"{len(lost)} of {len(instructions)} annotations are of an instruction that --baseline lacks, the first "
            f"{shorten(lost[0], 60)!r}: their difficulty is not known"
        )
    return [known[text] for text in instructions]


def _hash(instructions: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(instructions).encode("utf-8", "replace")).hexdigest()[:16]


def rate_of(found: Annotated, gamed: Gamed, order: Sequence[str] | None) -> tuple[float, float]:
    """Return the length-controlled win rate of a model's annotations and its error, placed as `places_of` says.

    They go into the fit by their places, so that the folds of its cross-validation are those of the set's own order.
    """
    places = places_of([row["instruction"] for row in found.rows], order, gamed)
    rows = sorted(zip(places, found.scores, found.rows, strict=True), key=lambda row: row[0])
    lengths = [(len(row["output_1"]), len(row["output_2"])) for _, _, row in rows]
    return length_controlled([score for _, score, _ in rows], lengths, gamed, [place for place, _, _ in rows])
