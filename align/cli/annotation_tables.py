"""Tables of `align annotate results`; nothing is marked as better inside the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from align.annotation.rater_agreement import RaterAgreement, RaterAlpha
from align.annotation.rater_groups import GroupAlpha
from align.annotation.remarks import Said
from align.annotation.results import RaterSummary
from align.cli.evaluation_tables import short
from align.evaluation.comparison import Comparison
from align.evaluation.statistics import Interval


def win_table(comparisons: Mapping[tuple[str, str], Comparison]) -> Table:
    """Return a row for every two names; a star marks a win rate whose 95 % interval leaves out one half."""
    numbers = ("win %", "tie %", "lose %", "win rate %", "same length %", "prompts")
    table = _table(
        "first against second (95 % bootstrap over prompts; * not explained by chance)", ("first", "second"), numbers
    )
    for names, found in comparisons.items():
        shares = [_percent(part) for part in (found.win, found.tie, found.lose, found.win_rate)]
        star = "*" if found.decided else " "
        rest = (f"{100 * found.length_controlled:.1f}", str(found.items))
        table.add_row(*map(Text, (*map(_printable, names), *shares[:3], shares[3] + star, *rest)))
    return table


def rater_table(raters: Sequence[RaterSummary], items: int) -> Table:
    """Return a row for every rater."""
    table = _table("raters", ("rater",), ("judged", "ties %", "left chosen %"))
    for rater in raters:
        left = "" if math.isnan(rater.first) else f"{100 * rater.first:.0f}"
        table.add_row(*map(Text, (rater.rater, f"{rater.judged} of {items}", f"{100 * rater.ties:.0f}", left)))
    return table


def agreement_table(agreements: Sequence[RaterAgreement]) -> Table:
    """Return a row for every two raters, and one for all."""
    title = "agreement (95 % bootstrap over items; kappa: Cohen of two, Fleiss of more; 0 is chance)"
    table = _table(title, ("raters", "on"), ("items", "same %", "kappa"))
    for found in agreements:
        rest = (str(found.items), _percent(found.rate), _coefficient(found.kappa))
        table.add_row(*map(Text, (", ".join(found.raters), found.question, *rest)))
    return table


def alpha_table(alphas: Sequence[RaterAlpha]) -> Table:
    """Return a row for every question and level of measurement."""
    title = "Krippendorff's alpha of all raters (95 % bootstrap over items; 1 is full agreement, 0 chance)"
    table = _table(title, ("on", "level"), ("rated twice", "alpha"))
    for found in alphas:
        table.add_row(*map(Text, (found.question, found.level, str(found.items), _coefficient(found.alpha))))
    return table


def group_table(groups: Sequence[GroupAlpha]) -> Table:
    """Return a row for every group of raters, question and level of measurement."""
    title = "Krippendorff's alpha within groups of raters (95 % bootstrap over items)"
    table = _table(title, ("group", "on", "level"), ("raters", "rated twice", "alpha"))
    for group in groups:
        found = group.found
        words = (f"{_printable(group.asked)}: {_printable(group.answer)}", found.question, found.level)
        table.add_row(*map(Text, (*words, str(group.raters), str(found.items), _coefficient(found.alpha))))
    return table


def remark_table(said: Sequence[Said]) -> Table:
    """Return a row for every name and field."""
    table = _table("what was said of the responses (95 % bootstrap over prompts)", ("model", "on"), ("mean", "prompts"))
    for row in said:
        mean = short(row.mean) if row.value is None else f"{_percent(row.mean)} %"
        on = row.field if row.value is None else f"{row.field}: {row.value}"
        table.add_row(*map(Text, (_printable(row.name), on, mean, str(row.prompts))))
    return table


def _printable(name: str) -> str:
    """Return a name without the control characters that a terminal obeys."""
    return "".join(letter if letter.isprintable() else "�" for letter in name)


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """Return a table with columns of words and columns of numbers."""
    table = Table(title=title, title_justify="left")
    for header in words:
        table.add_column(header)
    for header in numbers:
        table.add_column(header, justify="right")
    return table


def _coefficient(found: Interval) -> str:
    return "not defined" if math.isnan(found.value) else "{:.2f} [{:.2f}, {:.2f}]".format(*found)


def _percent(part: Interval) -> str:
    return short(Interval(*(100 * value for value in part)))
