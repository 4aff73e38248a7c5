"""Write what the study found: tables of its card, and the picture of gold, proxy and judge over the root of KL.

    python page.py OUT ACCURACY POLICIES BEST_OF COST [PAGE]

reads the tables of these folders, writes OUT/figures.json and OUT/overoptimisation.png, prints the tables, and puts
them between the two marks of a page.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from align.studies.page_text import StudyPage, interval, mean, table

MARKS = ("<!-- figures of experiments/overoptimisation -->", "<!-- end of figures -->")
TABLES = ("accuracy", "policies", "best_of", "cost")
SERIES = ("gold", "proxy", "judge")
LESS = "{} less untouched"
PARTS = ("entropy", "refusals", "true facts", "well formed", "words")
COLOURS = {"gold": "C0", "proxy": "C1", "judge": "C2"}
Rows = Mapping[str, Mapping[str, Any]]


def sizes(figures: Mapping[str, Any]) -> list[str]:
    """Return how many pairs the proxies were trained on, as rows say it, such as `pairs=250`."""
    return [title.partition(", ")[2] for title in figures["accuracy"] if ", " in title]


def best_of(figures: Mapping[str, Any], size: str, by: str) -> list[Mapping[str, Any]]:
    """Return the rows of best-of-n, n = 1 first."""
    rows: Rows = figures["best_of"]
    return [row for title, row in rows.items() if title.endswith(f" by {by}, {size}")]


def trained(figures: Mapping[str, Any], size: str) -> dict[str, Mapping[str, Any]]:
    """Return the parts of the policy gradient on a proxy, in their order."""
    return {
        t.partition(f", {size}")[0]: r
        for t, r in figures["policies"].items()
        if t.endswith(f", {size}") and "GRPO" in t
    }


def peak(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return alpha and beta of d (alpha - beta d), d the root of KL, fitted to what best-of-n gains in gold.

    Gao et al. 2022 (arXiv:2210.10760), section 3.1. The gold reward falls from d = alpha / (2 beta) on.
    """
    roots = np.array([math.sqrt(row["KL at most"]["mean"]) for row in rows])
    gains = np.array([row["gold"]["mean"] - rows[0]["gold"]["mean"] for row in rows])
    (alpha, minus_beta), *_ = np.linalg.lstsq(np.stack([roots, roots**2], axis=1), gains)
    return float(alpha), float(-minus_beta)


def text(figures: Mapping[str, Any]) -> str:
    """Return the tables."""
    policies: Rows = figures["policies"]
    head = [
        "policy gradient on the proxy",
        "KL",
        "gold",
        "gain at equal KL",
        "proxy",
        "judge",
        "T = .7",
        "greedy",
        *PARTS,
        "CPU s",
    ]
    rows = []
    for title, row in policies.items():
        own = [
            interval(row.get(c))
            for c in ("KL", "gold", "gain at equal KL", LESS.format("proxy"), LESS.format("judge"), "T = .7", "greedy")
        ]
        spent = mean(figures["cost"].get(title, {}).get("CPU seconds"), 0)
        rows.append([title, *own, *(mean(row.get(c)) for c in PARTS), spent])
    lines = table(head, rows)
    head = [
        "best of n",
        "KL at most",
        *(f"{what}, {size}" for size in sizes(figures) for what in ("gold", "proxy", "judge")),
        "gold, chosen by gold",
    ]
    first = sizes(figures)[0]
    rows = []
    for place, gold in enumerate(best_of(figures, first, "gold")):
        cells = [f"{2**place}", mean(gold["KL at most"])]
        for size in sizes(figures):
            row = best_of(figures, size, "proxy")[place]
            cells += [interval(row["gold"]), mean(row.get(LESS.format("proxy"))), mean(row.get(LESS.format("judge")))]
        rows.append([*cells, interval(gold["gold"])])
    lines += ["", *table(head, rows)]
    models = [
        [t, interval(r["held-out accuracy"], 3), mean(r["CPU seconds"], 0)] for t, r in figures["accuracy"].items()
    ]
    lines += ["", *table(["reward model", "held-out accuracy", "CPU s"], models)]
    fits = [(size, *peak(best_of(figures, size, "proxy"))) for size in sizes(figures)]
    told = [[size, f"{a:.2f}", f"{b:.2f}", f"{a / b / 2:.2f}" if b > 0 else "none"] for size, a, b in fits]
    return "\n".join(
        [*lines, "", *table(["gold gain of best-of-n, d (alpha - beta d)", "alpha", "beta", "peak at d"], told)]
    )


def picture(figures: Mapping[str, Any], path: Path) -> None:
    """Draw gains over the untouched base: best-of-n as lines with bands, the policy gradient as points with bars."""
    names = sizes(figures)
    figure = Figure(figsize=(5 * len(names), 4.2), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        chosen, parts = best_of(figures, size, "proxy"), list(trained(figures, size).values())
        roots = [math.sqrt(row["KL at most"]["mean"]) for row in chosen]
        own = [math.sqrt(max(row["KL"]["mean"], 0)) for row in parts]
        for name in SERIES:
            found = [row.get(LESS.format(name)) or {"mean": 0, "low": 0, "high": 0} for row in chosen]
            axes.plot(roots, [f["mean"] for f in found], color=COLOURS[name], label=f"{name}, best of n")
            axes.fill_between(
                roots, [f["low"] for f in found], [f["high"] for f in found], color=COLOURS[name], alpha=0.15
            )
            found = [row[LESS.format(name)] for row in parts]
            spread = [[f["mean"] - f["low"] for f in found], [f["high"] - f["mean"] for f in found]]
            axes.errorbar(
                own,
                [f["mean"] for f in found],
                yerr=spread,
                fmt="o--",
                color=COLOURS[name],
                markersize=4,
                capsize=2,
                label=f"{name}, GRPO",
            )
        axes.axhline(0, color="0.7", linewidth=0.8)
        axes.set(
            xlabel="root of KL to the base, nats an answer",
            ylabel="reward less that of the base, T = 1",
            title=f"proxy of {size.partition('=')[2]} pairs",
        )
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    StudyPage(TABLES, MARKS, text, picture, "overoptimisation.png").write(sys.argv[1:])
