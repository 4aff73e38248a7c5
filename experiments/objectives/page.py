"""Write what the study found: the tables of docs/results.md, and the picture of reward over divergence.

    python experiments/objectives/page.py runs/objectives OUT
    python experiments/objectives/page.py runs/objectives experiments/objectives docs/results.md

writes OUT/figures.json and OUT/frontier.png, prints the tables, and puts them between the two marks of a page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from align.studies.page_text import interval, mean, put
from align.studies.page_text import table as lines_of

MARKS = ("<!-- figures of experiments/objectives -->", "<!-- end of figures -->")
COLUMNS = (
    "gain at equal KL",
    "gain at equal entropy",
    "T = 1",
    "T = .7",
    "greedy",
    "greedy over untouched",
    "over SFT",
)
PARTS = ("KL", "entropy", "share of optimum", "held-out entities", "refusals", "true facts", "well formed", "words")
HEADLINE = COLUMNS[0]
FIRST = {"RAHF-Dual": "first stage of Dual", "RAHF-SCIT": "first stage of SCIT"}
"""What an arm is trained after, whose CPU seconds count too."""
Rows = Mapping[str, Mapping[str, Any]]


def figures_of(study: Path) -> dict[str, Any]:
    """Return all figures of a study: results, cost, what the search tried, and the base by its temperature."""
    tables = {name: json.loads((study / name / "table.json").read_text())["rows"] for name in ("results", "cost")}
    tried = json.loads((study / "chosen" / "results.json").read_text())
    curve = []
    for file in sorted(study.glob("measured-*/results.json")):
        for model in json.loads(file.read_text())["models"].values():
            base = model["base_at_equal_kl"]
            curve += [] if base["temperature"] is None else [(base["kl"], base["reward"], base["temperature"])]
    searched = {arm: {setting: row[HEADLINE]["mean"] for setting, row in rows.items()} for arm, rows in tried.items()}
    return {**tables, "searched": searched, "base_by_temperature": sorted(curve)}


def table(figures: Mapping[str, Any]) -> str:
    """Return the tables, best gain at equal KL first; an arm without one in some seed comes last."""
    rows: Rows = figures["results"]
    order = sorted(rows, key=lambda title: -worth(rows[title]))
    head = ["method", *COLUMNS, "CPU s"]
    lines = lines_of(head, [[t, *(interval(rows[t].get(c)) for c in COLUMNS), cost(figures["cost"], t)] for t in order])
    parts = [[t, *(mean(rows[t].get(c)) for c in PARTS)] for t in order]
    lines += ["", *lines_of(["method at T = 1", *PARTS], parts)]
    width = max(len(found) for found in figures["searched"].values())
    head = ["searched, by rate or alpha: gain at equal KL", *[""] * width]
    tried = []
    for arm, found in figures["searched"].items():
        best = max(found, key=lambda one: -9e9 if found[one] is None else found[one])
        cells = [f"{s.partition('=')[2]}: {'-' if g is None else f'{g:.2f}'}" for s, g in found.items()]
        cells = [f"**{cell}**" if setting == best else cell for setting, cell in zip(found, cells, strict=True)]
        tried.append([arm, *cells, *[""] * (width - len(cells))])
    return "\n".join([*lines, "", *lines_of(head, tried)])


def worth(row: Mapping[str, Any]) -> float:
    """Return the gain at equal KL, a large negative number where some seed has none."""
    found = row.get(HEADLINE)
    return -9e9 if found is None or len(found["values"]) < found["seeds"] else float(found["mean"])


def cost(rows: Rows, title: str) -> str:
    """Return the CPU seconds of a run, its first stage included."""
    parts = [rows[name]["CPU seconds"]["mean"] for name in (title, FIRST.get(title, title)) if name in rows]
    parts = parts[: 2 if title in FIRST else 1]
    return "" if not parts or None in parts else f"{sum(parts):.0f}"


def picture(figures: Mapping[str, Any], path: Path) -> None:
    """Draw reward over divergence: every arm with its interval, and the untouched base sampled ever sharper."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    curve = figures["base_by_temperature"]
    axes.plot([kl for kl, _, _ in curve], [reward for _, reward, _ in curve], color="0.5", label="untouched, sharper")
    trained = [(title, row) for title, row in figures["results"].items() if row["KL"]["mean"]]
    for place, (title, row) in enumerate(sorted(trained, key=lambda one: one[1]["KL"]["mean"])):
        kl, reward = row["KL"]["mean"], row["T = 1"]
        spread = [[reward["mean"] - reward["low"]], [reward["high"] - reward["mean"]]]
        axes.errorbar([kl], [reward["mean"]], yerr=spread, fmt="o", color="C0", markersize=4, capsize=2)
        axes.annotate(
            title,
            (kl, reward["mean"]),
            xytext=(5, (-14, 16, 4, -6, -30)[place % 5]),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set(xlabel="KL to the base, nats an answer", ylabel="gold reward, T = 1")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def main(study: Path, out: Path, page: Path | None = None) -> None:
    """Write all there is."""
    out.mkdir(parents=True, exist_ok=True)
    figures = figures_of(study)
    text = table(figures)
    (out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    picture(figures, out / "frontier.png")
    if page is not None:
        put(page, MARKS, text)
    print(text)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
