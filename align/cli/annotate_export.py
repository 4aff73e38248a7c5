"""`align annotate export`: judgments as data."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from align.annotation.form import RATING
from align.annotation.training_rows import Scores, Ties, list_rows, pair_rows, response_rows, voted
from align.cli.annotation_judgments import STORE, read_judgments, write_text
from align.cli.functions import FunctionVerb
from align.cli.unused import Unused
from align.errors import ConfigError, DataError
from align.strict_json import json_text

UNUSED = (
    Unused(("scores", "ties"), lambda s: s["rows"] == "responses", "orders responses, --rows responses has no order"),
)


def export(
    out: str,
    store: str = STORE,
    *,
    rows: Literal["pairs", "lists", "responses"] = "pairs",
    scores: Scores = "choices",
    ties: Ties = "drop",
    votes: Literal["together", "each"] = "together",
) -> None:
    """Write judgments as JSONL that `PreferenceFileDataModule` and TRL read.

    Args:
        out: File to write.
        store: SQLite file of the judgments; the page may go on meanwhile.
        rows: Pairs of chosen and rejected, or lists with the scores 1 for the best, 0 for the worst, 0.5 between, or
            single responses with their rating.
        scores: Whether the choices, or the mean ratings on the scale, order pairs and lists and are their scores.
        ties: Leave them out, keep them with equal scores, or (pairs) write them in both directions.
        votes: One row for all raters of an item, decided by the mean of their votes, or one for each judgment.
    """
    if rows == "lists" and ties == "both":
        raise ConfigError("ties both is for --rows pairs: a list says by equal scores that responses are tied")
    items, judgments, fields, _, labellers = read_judgments(store)
    if (scores == "ratings" or rows == "responses") and not any(field.name == RATING for field in fields):
        named = "--scores ratings" if scores == "ratings" else "--rows responses"
        raise ConfigError(
            f"{named}: {store} has no ratings: they are asked for by `align annotate serve --scale.high 7`"
        )
    found = voted(items, judgments, labellers, each=votes == "each")
    made = (
        response_rows(found, fields)
        if rows == "responses"
        else (pair_rows if rows == "pairs" else list_rows)(found, ties, scores, fields)
    )
    reasons = ", ".join(f"{count} {reason}" for reason, count in made.left_out.most_common())
    if not made.rows:
        raise DataError(f"{store}: no judgment makes a row{f' (left out: {reasons})' if reasons else ''}")
    write_text(Path(out), "".join(json_text(row) + "\n" for row in made.rows))
    print(
        f"{out}: {len(made.rows)} {rows} of {len(found)} judged items" + (f", left out: {reasons}" if reasons else "")
    )


VERB = FunctionVerb(export, unused=UNUSED)
