"""`align evaluate --human`: a judge on pairs that people have judged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import short, show
from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.errors import ConfigError
from align.evaluation.judging import JudgeAgreement, Label, agreement
from align.judges.preference import Judge


def agreement_with_people(judge: Judge, path: str, kept: Sequence[str] = ()) -> JudgeAgreement:
    """Return how a judge agrees with a file of human preferences, such as `align annotate` exports.

    Every row that holds a pair is asked about, in both orders; equal scores of both are a tie. Which response is side A
    is drawn from the row, so that people's labels are not all `win` and chance agreement can be told. `kept` are the
    columns that a judge's reward functions read.
    """
    source, report = PreferenceFile(path, keep_columns=kept), Report()
    split = next(s for s in ("test", "val", "train") if source.split_names()[s])
    asked, first, second, labels = [], [], [], []
    for example in source.read(split, report):
        if len(example.responses) != 2 or not example.ranking:
            report.drop("no pair with a preference", example.id)
            continue
        report.kept += 1
        good, bad = (example.ranking[0][0], example.ranking[-1][-1])
        swapped = hashlib.sha256(repr((example.id, example.messages)).encode("utf-8", "replace")).digest()[0] % 2
        asked.append(example)
        first.append(example.responses[bad if swapped else good])
        second.append(example.responses[good if swapped else bad])
        labels.append(_label(len(example.ranking) == 1, bool(swapped)))
    print(f"human preferences {path}: {report}")
    if not asked:
        raise ConfigError(f"human {path}: no row holds a pair with a preference")
    return agreement(judge.prefer_examples(asked, first, second), labels)


def tell_agreement(judge: Judge, path: str, kept: Sequence[str] = ()) -> JudgeAgreement:
    """Print and return how a judge agrees with a file of human preferences."""
    found = agreement_with_people(judge, path, kept)
    show(agreement_table(found, judge.name, path))
    return found


def _label(tie: bool, swapped: bool) -> Label:
    return "tie" if tie else "lose" if swapped else "win"


def agreement_table(found: JudgeAgreement, judge: str, path: str) -> Table:
    """Return the agreement of a judge with people."""
    title = f"{judge} and the people of {Path(path).name}: agreement (95 % bootstrap over items)"
    table = Table(title=Text(title), title_justify="left")
    for header in ("win, tie or lose", "kappa", "without ties", "items", "left out"):
        table.add_column(header, justify="right")
    cells = (*map(short, (found.rate, found.kappa, found.decided)), str(found.items), str(found.left_out))
    table.add_row(*map(Text, cells))
    return table
