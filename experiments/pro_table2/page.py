"""Write what the study found: tables of its card, and the picture of gold reward over the length of lists.

    python page.py OUT RESULTS AGAINST RANKINGS COST [PAGE]

reads the tables of these folders, writes OUT/figures.json and OUT/lengths.png, prints the tables, and puts them between
the two marks of a page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from align.studies.page_text import StudyPage, interval, mean, table

MARKS = ("<!-- figures of experiments/pro_table2 -->", "<!-- end of figures -->")
TABLES = ("results", "against", "rankings", "cost")
REWARDS = ("gain at equal KL", "gain at equal entropy", "T = 1", "T = .7", "greedy", "over SFT")
MODELS = ("judge less untouched", "ranker less untouched")
PARTS = ("KL", "entropy", "share of optimum", "refusals", "true facts", "well formed", "words")
HEADLINES = ("gain at equal KL", "T = 1")
Rows = Mapping[str, Mapping[str, Any]]


def text(figures: Mapping[str, Any]) -> str:
    """Return the tables."""
    rows: Rows = figures["results"]
    lines = table(["policy", *REWARDS], [[t, *(interval(row.get(c)) for c in REWARDS)] for t, row in rows.items()])
    judged = [
        [t, *(interval(row.get(c)) for c in MODELS), *(mean(row.get(c)) for c in PARTS), _spent(figures, t)]
        for t, row in rows.items()
    ]
    lines += ["", *table(["policy at T = 1", *MODELS, *PARTS, "CPU s"], judged)]
    columns = ("less PRO, T = 1", "less PRO, equal KL")
    against = [
        [t, *(interval(row.get(c)) for c in columns)] for t, row in figures["against"].items() if columns[0] in row
    ]
    lines += ["", *table(["same lists", *columns], against)]
    measures = ("held-out pairs", "best of the list", "Kendall tau")
    ranked = [[t, *(interval(row.get(c)) for c in measures)] for t, row in figures["rankings"].items()]
    return "\n".join([*lines, "", *table(["order of held-out responses", *measures], ranked)])


def curves(rows: Rows) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Return the rows of each policy by the length of its lists; what is done at one length alone under 0."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for title, row in rows.items():
        name, _, length = title.partition(", n=")
        found.setdefault(name, {})[int(length or 0)] = row
    return found


def picture(figures: Mapping[str, Any], path: Path) -> None:
    """Draw gain at equal KL and reward at T = 1 over the length of lists, with intervals."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    series = curves(figures["results"])
    lengths = sorted({n for by_length in series.values() for n in by_length if n})
    shifts = dict(
        zip((name for name in series if list(series[name]) != [0]), (0.03 * n for n in range(-3, 9)), strict=False)
    )
    for axes, column in zip(figure.subplots(1, len(HEADLINES)), HEADLINES, strict=True):
        for place, (name, by_length) in enumerate(series.items()):
            cells = {length: row[column] for length, row in by_length.items() if row[column]["mean"] is not None}
            means = [cell["mean"] for cell in cells.values()]
            spread = [[c["mean"] - c["low"] for c in cells.values()], [c["high"] - c["mean"] for c in cells.values()]]
            look: dict[str, Any] = {"color": f"C{place}", "label": name}
            if list(cells) == [0]:
                axes.axhline(*means, linestyle=":", **look)
            elif cells:
                axes.errorbar(
                    [n + shifts[name] for n in cells], means, spread, fmt="o-", markersize=4, capsize=2, **look
                )
        axes.set(xlabel="responses per list", ylabel=f"gold reward: {column}", xticks=lengths)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=150)


def _spent(figures: Mapping[str, Any], title: str) -> str:
    return mean(figures["cost"].get(title, {}).get("CPU seconds"), 0)


if __name__ == "__main__":
    StudyPage(TABLES, MARKS, text, picture, "lengths.png").write(sys.argv[1:])
