"""Draws R^2 over rated responses, one panel per attribute."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure


def draw(table: Path, path: Path) -> None:
    """Draw the table of the study: means over seeds, and every seed."""
    found = json.loads(table.read_text())["rows"]
    rows = {int(title.rpartition("=")[2]): figures for title, figures in found.items()}
    attributes = list(next(iter(rows.values())))
    figure = Figure(figsize=(10, 3), layout="constrained")
    panels = figure.subplots(1, len(attributes), sharey=True)
    for attribute, panel in zip(attributes, panels, strict=True):
        panel.plot(list(rows), [figures[attribute]["mean"] for figures in rows.values()], marker="o")
        for count, figures in rows.items():
            values = list(figures[attribute]["values"].values())
            panel.scatter([count] * len(values), values, s=8, color="grey")
        panel.set(title=attribute, xlabel="rated responses", xscale="log", ylim=(0, 1))
    panels[0].set_ylabel("R² on held-out prompts")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
