"""Tables of `align evaluate` beside its rewards: the start as sharp as each model, and best-of-n."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import called, name, short
from align.evaluation.matched_start import MatchedReport
from align.evaluation.reward_evaluation import TOTAL, ResponseReport

Matches = Mapping[str, Mapping[float, Mapping[str, MatchedReport]]]


def matched_table(matches: Matches, outputs: list[str], told: Mapping[str, str]) -> Table:
    """Return what the start reaches as sharp as each model, and what the model reaches beyond it.

    A star marks a difference whose 95 % interval over prompts leaves out 0.
    """
    table = Table(title="the start at the temperature of the same entropy, and of the same KL", title_justify="left")
    headers = (
        "model",
        "T",
        "same",
        "nats",
        "start's T",
        *map(name, outputs),
        *(f"{name(o)}: model - start" for o in outputs),
    )
    for header in (*headers, "perplexity"):
        table.add_column(Text(header), justify="left" if header in ("model", "same") else "right")
    for model, levels in matches.items():
        for temperature, kinds in levels.items():
            for by, found in kinds.items():
                row = (called(model, told), f"{temperature:g}", by, f"{found.target:.3g}", *_cells(found, outputs))
                table.add_row(*map(Text, row))
    return table


def _cells(found: MatchedReport, outputs: list[str]) -> list[str]:
    if found.report is None or found.temperature is None:
        return ["none", *("-" for _ in (*outputs, *outputs)), "-"]
    rewards = [short(found.report.rewards[output][TOTAL].raw) for output in outputs]
    gains = [short(found.gain[o]) + ("*" if found.gain[o].excludes_zero else " ") for o in outputs]
    perplexity = found.report.perplexity
    return [f"{found.temperature:.3f}", *rewards, *gains, "" if perplexity is None else short(perplexity)]


def best_of_table(reports: Mapping[str, Mapping[float, ResponseReport]], told: Mapping[str, str]) -> Table:
    """Return the rewards of the best of n samples by model, temperature and n."""
    rows = [(m, t, n, b) for m, levels in reports.items() for t, r in levels.items() for n, b in r.best_of.items()]
    outputs = list(rows[0][3].rewards)
    table = Table(title="best of n samples (95 % bootstrap over prompts)", title_justify="left")
    for header in ("model", "T", "n", *map(name, outputs), "KL at most"):
        table.add_column(Text(header), justify="left" if header == "model" else "right")
    for model, temperature, n, found in rows:
        cells = (*(short(found.rewards[o]) for o in outputs), f"{found.kl_bound:.3f}")
        table.add_row(*map(Text, (called(model, told), f"{temperature:g}", n, *cells)))
    return table
