"""Draws gold reward over list length: means over seeds with their range."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure


def draw(table: Path, path: Path) -> None:
    """Draw the table of the study."""
    rows = json.loads(table.read_text())["rows"]
    curves: dict[str, dict[int, list[float]]] = {}
    for title, figures in rows.items():
        name, _, length = title.rpartition(", n=")
        curves.setdefault(name, {})[int(length)] = list(figures["reward"]["values"].values())
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, by_length in curves.items():
        means = [sum(values) / len(values) for values in by_length.values()]
        low = [mean - min(values) for mean, values in zip(means, by_length.values(), strict=True)]
        high = [max(values) - mean for mean, values in zip(means, by_length.values(), strict=True)]
        style = {"color": "grey", "linestyle": ":"} if name == "base" else {"marker": "o", "capsize": 3}
        axes.errorbar(list(by_length), means, (low, high), label=name, **style)
    axes.set(xlabel="responses per list", ylabel="gold reward, held-out prompts")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
