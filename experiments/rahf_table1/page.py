"""Write what the study found: tables of its card, and the picture of rewards by run, over KL and over the shift.

    python page.py OUT REWARDS STATES COST [PAGE]

reads the tables of these folders, writes OUT/figures.json and OUT/results.png, prints the tables, and puts them between
the two marks of a page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from align.studies.page_text import StudyPage, interval, mean, table

MARKS = ("<!-- figures of experiments/rahf_table1 -->", "<!-- end of figures -->")
TABLES = ("rewards", "states", "cost")
REWARDS = ("gain at equal KL", "gain at equal entropy", "T = 1", "T = .75", "T = .5", "T = .25", "greedy")
MODELS = ("judge less base", "ranker less base", "judge less base, greedy")
PARTS = ("KL", "entropy", "refusals", "true facts", "sentences", "well formed", "words")
AGAINST = ("greedy less base", "less LoRRA", "less HIR", "less good and bad", "less SFT")
EQUAL = ("equal KL, less HIR", "equal KL, less SFT", "equal KL, less DPO")
STATES = ("shift", "at the last prompt token", "FVE", "cosine", "rho")
FIRST = {"Dual": "good and bad", "SCIT": "HIR"}
"""The stage a run begins after, whose CPU seconds count too."""
Rows = Mapping[str, Mapping[str, Any]]


def text(figures: Mapping[str, Any]) -> str:
    """Return the tables."""
    rows: Rows = figures["rewards"]
    lines = table(["run", *REWARDS], [[t, *(interval(row.get(c)) for c in REWARDS)] for t, row in rows.items()])
    judged = [
        [t, *(interval(row.get(c)) for c in MODELS), *(mean(row.get(c)) for c in PARTS), spent(figures["cost"], t)]
        for t, row in rows.items()
    ]
    lines += ["", *table(["run at T = 1", *MODELS, *PARTS, "CPU s"], judged)]
    columns = (*AGAINST, *EQUAL)
    against = [[t, *(interval(rows[t].get(c)) for c in columns)] for t in rows if t.startswith(tuple(FIRST))]
    lines += ["", *table(["same prompts", *columns], against)]
    states = [[t, *(mean(row.get(c)) for c in STATES)] for t, row in figures["states"].items()]
    return "\n".join([*lines, "", *table(["states at layer 3", *STATES], states)])


def spent(rows: Rows, title: str) -> str:
    """Return the CPU seconds of a run, its first stage included; a dash where they are not known."""
    stages = [title, *[first for name, first in FIRST.items() if title.startswith(name)]]
    found = [rows.get(stage, {}).get("CPU seconds", {}).get("mean") for stage in stages]
    return "-" if None in found else f"{sum(found):.0f}"


def picture(figures: Mapping[str, Any], path: Path) -> None:
    """Draw rewards by run and temperature, over KL, and over the shift that alpha asks for, with intervals."""
    rows, shifts = figures["rewards"], figures["states"]
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    bars, divergence, shift = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    colours = [matplotlib.colormaps["tab20"](number % 20) for number in range(len(rows))]
    for place, (colour, (name, row)) in enumerate(zip(colours, rows.items(), strict=True)):
        bars.barh(place, row["T = 1"]["mean"], xerr=spread(row["T = 1"]), color=colour, alpha=0.6, capsize=2)
        bars.plot(row["greedy"]["mean"], place, marker="D", markersize=4, color="black")
        point(divergence, row["KL"]["mean"] + 0.01, row["T = 1"], colour, name)
        if name in shifts:
            point(shift, shifts[name]["shift"]["mean"], row["T = 1"], colour, name)
            place_of = (shifts[name]["shift"]["mean"], row["T = 1"]["mean"])
            shift.annotate(name, place_of, xytext=(5, 5), textcoords="offset points", fontsize=7)
    bars.set_yticks(range(len(rows)), list(rows))
    bars.invert_yaxis()
    bars.set_xlabel("gold reward: T = 1 (bars), greedy (diamonds)")
    divergence.set_xscale("log")
    divergence.set_xlabel("KL to the base, nats per answer (+ 0.01)")
    shift.set_xlabel("alpha |v| / |h| at layer 3")
    for axes in (divergence, shift):
        axes.axhline(rows["base"]["T = 1"]["mean"], color="grey", linewidth=0.8)
        axes.set_ylabel("gold reward, T = 1")
    divergence.legend(fontsize=6)
    shift.margins(x=0.25)
    figure.savefig(path, dpi=130)


def point(axes: Axes, place: float, cell: Mapping[str, Any], colour: Any, name: str) -> None:
    """Draw a reward with its interval."""
    axes.errorbar(
        [place], [cell["mean"]], yerr=spread(cell), fmt="o", color=colour, markersize=5, capsize=2, label=name
    )


def spread(cell: Mapping[str, Any]) -> list[list[float]]:
    """Return how far an interval reaches below and above its mean."""
    return [[cell["mean"] - cell["low"]], [cell["high"] - cell["mean"]]]


if __name__ == "__main__":
    StudyPage(TABLES, MARKS, text, picture, "results.png").write(sys.argv[1:])
