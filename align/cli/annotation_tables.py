"""Tables of `align annotate results`; nothing is marked as better inside the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from align.annotation.agreement import Agreement, Alpha
from align.annotation.remarks import Said
from align.annotation.results import RaterSummary
from align.cli.evaluation_tables import short
from align.evaluation.comparison import Comparison
from align.evaluation.statistics import Interval


def win_table(comparisons: Mapping[tuple[str, str], Comparison]) -> Table:
    """Return a row for every two names; a star marks a win rate whose 95 % interval leaves out one half."""
    headers = ("win %", "tie %", "lose %", "win rate %", "same length %", "prompts")
    table = _table("first against second (95 % bootstrap over prompts; * not explained by chance)", 2)
    for header in headers:
        table.add_column(header, justify="right")
    for names, found in comparisons.items():
        shares = [_percent(part) for part in (found.win, found.tie, found.lose, found.win_rate)]
        star = "*" if found.decided else " "
        rest = (f"{100 * found.length_controlled:.1f}", str(found.items))
        table.add_row(*map(Text, (*map(_printable, names), *shares[:3], shares[3] + star, *rest)))
    return table


def rater_table(raters: Sequence[RaterSummary], items: int) -> Table:
    """Return a row for every rater."""
    table = _table("raters", 0)
    for header in ("rater", "judged", "ties %", "left chosen %"):
        table.add_column(header, justify="left" if header == "rater" else "right")
    for rater in raters:
        left = "" if math.isnan(rater.first) else f"{100 * rater.first:.0f}"
        table.add_row(*map(Text, (rater.rater, f"{rater.judged} of {items}", f"{100 * rater.ties:.0f}", left)))
    return table


def agreement_table(agreements: Sequence[Agreement]) -> Table:
    """Return a row for every two raters, and one for all."""
    table = _table("agreement (95 % bootstrap over items; kappa: Cohen of two, Fleiss of more; 0 is chance)", 0)
    for header in ("raters", "on", "items", "same %", "kappa"):
        table.add_column(header, justify="left" if header in ("raters", "on") else "right")
    for found in agreements:
        kappa = "not defined" if math.isnan(found.kappa.value) else "{:.2f} [{:.2f}, {:.2f}]".format(*found.kappa)
        row = (", ".join(found.raters), found.question, str(found.items), _percent(found.rate), kappa)
        table.add_row(*map(Text, row))
    return table


def alpha_table(alphas: Sequence[Alpha]) -> Table:
    """Return a row for every question and level of measurement."""
    table = _table("Krippendorff's alpha of all raters (95 % bootstrap over items; 1 is full agreement, 0 chance)", 0)
    for header in ("on", "level", "rated twice", "alpha"):
        table.add_column(header, justify="left" if header in ("on", "level") else "right")
    for found in alphas:
        alpha = "not defined" if math.isnan(found.alpha.value) else "{:.2f} [{:.2f}, {:.2f}]".format(*found.alpha)
        table.add_row(*map(Text, (found.question, found.level, str(found.items), alpha)))
    return table


def remark_table(said: Sequence[Said]) -> Table:
    """Return a row for every name and field."""
    table = _table("what was said of the responses (95 % bootstrap over prompts)", 0)
    for header in ("model", "on", "mean", "prompts"):
        table.add_column(header, justify="left" if header in ("model", "on") else "right")
    for row in said:
        mean = short(row.mean) if row.value is None else f"{_percent(row.mean)} %"
        on = row.field if row.value is None else f"{row.field}: {row.value}"
        table.add_row(*map(Text, (_printable(row.name), on, mean, str(row.prompts))))
    return table


def _printable(name: str) -> str:
    """Return a name without the control characters that a terminal obeys."""
    return "".join(letter if letter.isprintable() else "�" for letter in name)


def _table(title: str, names: int) -> Table:
    table = Table(title=title, title_justify="left")
    for header in ("first", "second")[:names]:
        table.add_column(header)
    return table


def _percent(part: Interval) -> str:
    return short(Interval(*(100 * value for value in part)))
