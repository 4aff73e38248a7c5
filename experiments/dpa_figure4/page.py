"""Write what the study found: tables of its card, and the picture of fronts, words by angle, and shares by budget.

    python page.py OUT STUDY RESULTS COST CHOSEN [PAGE]

reads the tables of these folders and the fronts of STUDY's seeds, writes OUT/figures.json and OUT/fronts.png, prints
the tables, and puts them between the two marks of a page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from align.evaluation.fronts import GOLD_SCALES, read_front
from align.strict_json import json_text
from align.studies.page_text import interval, mean, put, table
from align.world.optimum import pareto_front
from align.world.prompts import held_out_prompts
from align.world.universe import World

MARKS = ("<!-- figures of experiments/dpa_figure4 -->", "<!-- end of figures -->")
SHARES = ("share", "less untouched", "less DPO", "less soups", "less SteerLM", "less DPA, t = 4")
OTHER = ("share, greedy", "greedy, less soups", "share, T = 1")
ENDS = ("helpfulness", "words")
COSTS = {
    "SFT": ("SFT",),
    "DPO": ("DPO",),
    "soups": ("helpful", "brief"),
    "SteerLM": ("SteerLM",),
    "DPA, t = 4": ("DPA",),
    "paper's DPA, t = 4": ("paper's DPA",),
}
"""The runs behind a row, all rounds included."""
WORDS_OF_A_POINT = 0.4
CURVES = {"soups": "soup", "SteerLM": "SteerLM", "DPA, t = 4": "DPA 4", "paper's DPA, t = 4": "paper 4"}
"""Titles of what is drawn as a line, by how the names of its fronts begin."""
POINTS = {"untouched": "base", "untouched, T = .3": "base at T = .3", "SFT": "SFT", "DPO": "DPO"}
Rows = Mapping[str, Mapping[str, Any]]
Floats = NDArray[np.float64]
Means = list[tuple[float | None, float, float]]
"""Angle, helpfulness and words of each point."""


def text(figures: Mapping[str, Any]) -> str:
    """Return the tables."""
    rows: Rows = figures["results"]
    head = ["equal budget: share of the way at T = .7", "graded", "CPU s", *SHARES]
    lines = table(
        head,
        [
            [t, mean(r.get("graded"), 0), spent(figures["cost"], t), *(interval(r.get(c)) for c in SHARES)]
            for t, r in rows.items()
        ],
    )
    head = ["at T = .7, but for shares", *OTHER, "hypervolume", *(f"{end}, first to last" for end in ENDS), "falls"]
    more = [
        [t, *(interval(r.get(c)) for c in OTHER), interval(r.get("hypervolume"), 0), *ends(r), mean(r.get("falls"))]
        for t, r in rows.items()
    ]
    lines += ["", *table(head, more)]
    tried = [[arm, *searched(found)] for arm, found in figures["searched"].items()]
    width = max(map(len, tried))
    padded = [[*row, *[""] * (width - len(row))] for row in tried]
    return "\n".join([*lines, "", *table(["searched, by rate: share", *[""] * (width - 1)], padded)])


def ends(row: Mapping[str, Any]) -> list[str]:
    """Return helpfulness and words at the first and last point of a row, once where it is one point."""
    pairs = [[mean(row.get(f"{end}, {place}"), 0) for place in ("first", "last")] for end in ENDS]
    return [first if first == last else f"{first} to {last}" for first, last in pairs]


def searched(found: Mapping[str, Any]) -> list[str]:
    """Return the share at each rate, the chosen one in bold."""
    shares = {rate: row["share"]["mean"] for rate, row in found.items()}
    best = max(shares, key=lambda rate: shares[rate])
    cells = {rate: f"{rate}: {share:.2f}" for rate, share in shares.items()}
    return [f"**{cell}**" if rate == best else cell for rate, cell in cells.items()]


def spent(rows: Rows, title: str) -> str:
    """Return the CPU seconds of the runs behind a row, a dash where there are none or they are not known."""
    found = [rows[name]["CPU seconds"]["mean"] for name in COSTS.get(title, ())]
    return "-" if not found or None in found else f"{sum(found):.0f}"


def means_of(folder: Path) -> dict[str, Means]:
    """Return angle, helpfulness in points and words of every point of every model."""
    paths = sorted((folder / "fronts").glob("*.json"), key=lambda path: int(path.name.partition("-")[0]))
    found = {}
    for front in map(read_front, paths):
        rewards = front.rewards.mean(1)
        angles = [p.angle if isinstance(p.angle, float) else None for p in front.points]
        found[front.name] = [
            (a, float(h), WORDS_OF_A_POINT * float(v)) for a, (h, v) in zip(angles, rewards, strict=True)
        ]
    return found


def best(count: int) -> list[tuple[float, float]]:
    """Return the corners of the exact front: helpfulness in points, and words."""
    low, high = GOLD_SCALES["helpfulness"]
    corners = pareto_front(World(), held_out_prompts(World(), count, 0))
    return [(100 * (corner.helpfulness - low) / (high - low), corner.words) for corner in corners]


def picture(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the fronts of the first seed, words over the angle of all seeds, and shares over graded responses."""
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    first = next(iter(figures["fronts"].values()))
    left.plot([w for _, w in figures["optimum"]], [h for h, _ in figures["optimum"]], "k:", label="optimum")
    for colour, (title, prefix) in enumerate(CURVES.items()):
        points = [p for name, found in first.items() if name.startswith(prefix) for p in found]
        left.plot([w for _, _, w in points], [h for _, h, _ in points], "o-", color=f"C{colour}", ms=4, label=title)
        for place, seed in enumerate(figures["fronts"].values()):
            asked = [p for name, found in seed.items() if name.startswith(prefix) for p in found if p[0] is not None]
            if asked:
                label = title if place == 0 else None
                middle.plot(
                    [a for a, _, _ in asked], [w for _, _, w in asked], "o-", color=f"C{colour}", ms=3, label=label
                )
    for mark, (title, name) in zip("sDvX", POINTS.items(), strict=True):
        if name in first:
            left.plot(first[name][0][2], first[name][0][1], mark, color="0.3", label=title)
    left.set(xlabel="words", ylabel="helpfulness, points", title=f"seed {next(iter(figures['fronts']))}, T = .7")
    middle.set(xlabel="angle asked for, degrees", ylabel="words", title="all seeds")
    by_graded(right, figures["results"])
    for panel in (left, middle, right):
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=130)


def by_graded(axes: Axes, rows: Rows) -> None:
    """Draw shares, with intervals, over how many responses were graded."""
    for colour, title in enumerate(("DPA", "paper's DPA"), 2):
        own = [row for name, row in rows.items() if name.startswith(f"{title}, t = ")]
        axes.errorbar(*whiskers(own), fmt="o-", color=f"C{colour}", ms=4, capsize=2, label=title)
    for colour, title in enumerate(("SFT", "DPO", "soups", "SteerLM"), 4):
        x, y, spread = whiskers([rows[title]])
        axes.errorbar(x + 60 * (colour - 3), y, spread, fmt="s", color=f"C{colour}", ms=4, capsize=2, label=title)
    axes.axhline(rows["untouched, T = .3"]["share"]["mean"], color="grey", linestyle=":", label="untouched, T = .3")
    axes.set(xlabel="graded responses", ylabel="share of the way to the optimum, T = .7", title="equal budget")


def whiskers(rows: Sequence[Mapping[str, Any]]) -> tuple[Floats, Floats, Floats]:
    """Return graded responses, shares, and how far the intervals reach below and above them."""
    table = np.array([[row["graded"]["mean"], *(row["share"][end] for end in ("mean", "low", "high"))] for row in rows])
    graded, share, low, high = table.T
    return graded, share, np.stack([share - low, high - share])


def main(words: Sequence[str]) -> None:
    """Write all there is."""
    out, study, results, cost, chosen, *pages = map(Path, words)
    tables = {"results": results / "table.json", "cost": cost / "table.json"}
    figures: dict[str, Any] = {name: json.loads(path.read_text())["rows"] for name, path in tables.items()}
    figures["searched"] = json.loads((chosen / "results.json").read_text())
    folders = sorted(study.glob("fronts-*[0-9]"))
    figures["fronts"] = {folder.name.rpartition("-")[2]: means_of(folder) for folder in folders}
    for fronts in figures["fronts"].values():
        fronts.update(means_of(study / "sharper"))
    figures["optimum"] = best(120)
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures.json").write_text(json_text(figures, indent=1), encoding="utf-8")
    picture(figures, out / "fronts.png")
    for page in pages:
        put(page, MARKS, text(figures))
    print(text(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
