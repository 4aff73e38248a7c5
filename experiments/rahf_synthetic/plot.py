"""Draws what `run.py` measured: reward over KL, and reward over the shift that alpha asks for.

python experiments/rahf_synthetic/plot.py [--out runs/rahf_synthetic]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]


def main(out: Path) -> None:
    """Write results.png beside the results."""
    results = json.loads((out / "results.json").read_text())
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = matplotlib.colormaps["tab20"]
    base = results["base"][0]["reward"]
    for number, (name, rows) in enumerate(results.items()):
        colour = colours(number % 20)
        left.scatter([row["kl"] + 0.01 for row in rows], [row["reward"] for row in rows], color=colour, label=name)
        shifted = [row for row in rows if "layer_03/shift" in row]
        shifts = [row["layer_03/shift"] for row in shifted]
        right.scatter(shifts, [row["reward"] for row in shifted], color=colour)
    left.set_xscale("log")
    left.set_xlabel("KL to the base, nats per answer (+ 0.01)")
    right.set_xlabel("alpha |v| / |h| at layer 3")
    for axes in (left, right):
        axes.axhline(base, color="grey", linewidth=0.8)
        axes.set_ylabel("gold reward")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(out / "results.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "rahf_synthetic")
    main(parser.parse_args().out)
