"""`align annotate results`: what judgments say."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from align.annotation.rater_agreement import agreements, alphas
from align.annotation.rater_groups import ENOUGH, group_alphas
from align.annotation.remarks import said_of_names
from align.annotation.results import compare_names, summaries
from align.cli.annotation_judgments import STORE, read_judgments, write_text
from align.cli.functions import FunctionVerb
from align.strict_json import json_text


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

    items, judgments, fields, questions, labellers = read_judgments(store)
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
        write_text(Path(out), json_text(content, indent=1))


VERB = FunctionVerb(results)
