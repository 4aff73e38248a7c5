"""`align annotate results` and `export`: what judgments say, and as data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

from align.annotation.annotation_store import AnnotationStore, RaterJudgment
from align.annotation.form import RATING, Field
from align.annotation.items import AnnotationItem
from align.annotation.labellers import Answers
from align.annotation.rater_agreement import agreements, alphas
from align.annotation.rater_groups import ENOUGH, group_alphas
from align.annotation.remarks import said_of_names
from align.annotation.results import compare_names, summaries
from align.annotation.training_rows import Scores, Ties, list_rows, pair_rows, response_rows, voted
from align.cli.unused import Unused
from align.errors import ConfigError, DataError
from align.files import atomic_file
from align.strict_json import json_text

STORE = "runs/annotation.sqlite"
UNUSED = (
    Unused(("scores", "ties"), lambda s: s["rows"] == "responses", "orders responses, --rows responses has no order"),
)


def results(store: str = STORE, *, out: str | None = None) -> None:
    """Show wins, ties and losses with 95 % bootstrap intervals over prompts, ratings, and the agreement of the raters.

    Args:
        store: SQLite file of the judgments; the page may go on meanwhile.
        out: JSON file to write the same to.
    """
    # these import torch, as `serve` need not
    from align.cli.annotation_tables import (
        agreement_table,
        alpha_table,
        group_table,
        rater_table,
        remark_table,
        win_table,
    )
    from align.cli.evaluation_tables import show

    items, judgments, fields, questions, labellers = _read(store)
    wins, people, said = compare_names(items, judgments), summaries(judgments), said_of_names(items, judgments, fields)
    same, beyond = agreements(items, judgments, fields), alphas(items, judgments, fields)
    within, few = group_alphas(items, judgments, fields, questions, labellers)
    show(win_table(wins))
    if said:
        show(remark_table(said))
    show(rater_table(people, sum(item.asked for item in items)))
    if same:
        show(agreement_table(same))
    if beyond:
        show(alpha_table(beyond))
    if within:
        show(group_table(within))
    if few:
        print(f"agreement within groups needs {ENOUGH} things rated twice in the group; too few: {', '.join(few)}")
    if out is not None:
        content = {
            "comparisons": [{"a": a, "b": b, **asdict(found)} for (a, b), found in wins.items()],
            "raters": [rater._asdict() for rater in people],
            "remarks": [found._asdict() for found in said],
            "agreement": [found._asdict() for found in same],
            "alpha": [found._asdict() for found in beyond],
            "alpha_within": [{**found._asdict(), "found": found.found._asdict()} for found in within],
            "groups_too_small": few,
            "labellers": labellers,
        }
        _write(Path(out), json_text(content, indent=1))


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
    items, judgments, fields, _, labellers = _read(store)
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
    _write(Path(out), "".join(json_text(row) + "\n" for row in made.rows))
    print(
        f"{out}: {len(made.rows)} {rows} of {len(found)} judged items" + (f", left out: {reasons}" if reasons else "")
    )


class Kept(NamedTuple):
    """What a store holds."""

    items: list[AnnotationItem]
    judgments: list[RaterJudgment]
    fields: tuple[Field, ...]
    questions: tuple[Field, ...]
    """What raters were asked about themselves."""
    labellers: dict[str, Answers]


def _read(store: str) -> Kept:
    opened = AnnotationStore(Path(store))
    try:
        about, labellers = opened.labellers.questions(), opened.labellers.by_name()
        kept = Kept(opened.items(), opened.judgments(), opened.fields(), about, labellers)
    finally:
        opened.close()
    if not kept.judgments:
        raise ConfigError(f"{store}: no judgments yet ({len(kept.items)} items)")
    return kept


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
