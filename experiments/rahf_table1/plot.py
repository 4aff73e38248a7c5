"""Draws the tables of the study: rewards by run, reward over KL, and reward over the shift that alpha asks for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure


def seeds_of(figures: dict[str, Any], name: str) -> list[float]:
    """Return the value of every seed."""
    return list(figures[name]["values"].values())


def main(rewards: Path, states: Path, out: Path) -> None:
    """Draw them; a dot is a seed, a bar the mean over seeds."""
    found, shifts = (json.loads(path.read_text())["rows"] for path in (rewards, states))
    figure = Figure(figsize=(13, 4.5), layout="constrained")
    bars, divergence, shift = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    colours = [matplotlib.colormaps["tab20"](number % 20) for number in range(len(found))]
    for row, (colour, (name, figures)) in enumerate(zip(colours, found.items(), strict=True)):
        values = seeds_of(figures, "reward")
        bars.barh(row, figures["reward"]["mean"], color=colour, alpha=0.5)
        bars.scatter(values, [row] * len(values), color=colour, edgecolor="black", linewidth=0.5, zorder=3)
        divergence.scatter([kl + 0.01 for kl in seeds_of(figures, "KL")], values, color=colour, label=name)
        if name in shifts:
            shift.scatter(seeds_of(shifts[name], "shift"), values, color=colour)
    bars.set_yticks(range(len(found)), list(found))
    bars.invert_yaxis()
    bars.set_xlabel("gold reward")
    divergence.set_xscale("log")
    divergence.set_xlabel("KL to the base, nats per answer (+ 0.01)")
    shift.set_xlabel("alpha |v| / |h| at layer 3")
    for axes in (divergence, shift):
        axes.axhline(found["base"]["reward"]["mean"], color="grey", linewidth=0.8)
        axes.set_ylabel("gold reward")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
