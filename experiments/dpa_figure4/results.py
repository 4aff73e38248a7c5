"""What the fronts of the study say: a table, and a picture like the paper's figure 4.

python experiments/dpa_figure4/results.py runs/dpa_figure4 OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from align.evaluation.fronts import GOLD_SCALES, Front, Point, read_front
from align.evaluation.hypervolume import curve_dominates, hypervolume
from align.records import Arc
from align.records.reward_directions import unit
from align.world.optimum import pareto_front
from align.world.prompts import held_out_prompts
from align.world.universe import World

ANGLES = Arc().even(10)
NAMES = ["helpfulness", "-verbosity"]
REFERENCE = (100 * (-1 + 6) / 12, -125.0)
"""Of hypervolumes: helpfulness -1 and 50 words, in points."""
Fronts = dict[str, Front]


def best() -> np.ndarray:
    """Return the corners of the true front in points: helpfulness and verbosity."""
    corners = pareto_front(World(), held_out_prompts(World(), 120, 0))
    scales = [GOLD_SCALES["helpfulness"], GOLD_SCALES["verbosity"]]
    return np.array(
        [[100 * (v - low) / (high - low) for v, (low, high) in zip(c, scales, strict=True)] for c in corners]
    )


def summary(front: Front, base: Front, optimum: np.ndarray) -> dict[str, float]:
    """Return hypervolume, and the share of the way from the base to the optimum in v . r, the mean over ten directions.

    A model that is asked for directions answers each with its own point; any other takes its best point in each.
    """
    means = front.rewards.mean(1)
    own_angles = [p.angle for p in front.points]
    shares = []
    for angle in ANGLES:
        v = np.array(unit(angle))
        asked = own_angles.index(angle) if angle in own_angles else int(np.argmax(means @ v))
        start, top = float(base.rewards.mean((0, 1)) @ v), float((optimum @ v).max())
        shares.append((float(means[asked] @ v) - start) / (top - start))
    words = means[:, 1]
    falls = float(np.mean(np.diff(words) <= 0)) if len(words) > 1 and own_angles[0] is not None else float("nan")
    volume = hypervolume(front.columns(NAMES).mean(1), REFERENCE)
    return {
        "hypervolume": volume,
        "share": float(np.mean(shares)),
        "falls": falls,
        "first": means[0, 1],
        "last": means[-1, 1],
    }


def draw(every: list[Fronts], optimum: np.ndarray, path: Path) -> None:
    """Draw the fronts of the first seed as in the paper's figure 4, and verbosity over the angle of all seeds."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(optimum[:, 1], optimum[:, 0], color="black", linestyle=":", label="optimum")
    for place, (name, front) in enumerate(every[0].items()):
        means = front.rewards.mean(1)
        mark = "osD^vP*X<>"[place % 10]
        left.plot(
            means[:, 1], means[:, 0], marker=mark, markersize=5, linestyle="-" if len(means) > 1 else "none", label=name
        )
        if front.points[0].angle is not None:
            for number, other in enumerate(every):
                angles, words = [p.angle for p in other[name].points], other[name].rewards.mean(1)[:, 1]
                label = name if number == 0 else None
                right.plot(angles, words, marker=mark, markersize=4, color=f"C{place}", label=label)
    left.set(xlabel="verbosity, points (40 words are 100)", ylabel="helpfulness, points", title="seed 0")
    right.set(xlabel="angle asked for, degrees", ylabel="verbosity, points", title="all seeds")
    for panel in (left, right):
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def show(every: list[Fronts], optimum: np.ndarray) -> None:
    """Print a Markdown table, one value per seed."""
    header = ("model", "hypervolume", "share of the optimum", "verbosity, first and last", "falls", "dominates DPO")
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for name in every[0]:
        rows = [summary(fronts[name], fronts["base"], optimum) for fronts in every]
        each = lambda key, form: " / ".join(f"{row[key]:{form}}" for row in rows)  # noqa: B023, E731
        ends = " / ".join(f"{r['first']:.0f} to {r['last']:.0f}" for r in rows)
        tables = [(f[name].columns(NAMES).mean(1), f["DPO"].columns(NAMES).mean(1)) for f in every]
        beats = " / ".join("yes" if curve_dominates(a, b) else "no" for a, b in tables)
        falls = each("falls", ".2f") if rows[0]["falls"] == rows[0]["falls"] else ""
        cells = [name, each("hypervolume", ".0f"), each("share", ".2f"), ends, falls, beats]
        print(f"| {' | '.join(cells)} |")
    sys.stdout.flush()


def fronts_of(folder: Path) -> Fronts:
    """Return the fronts that `align front compare` wrote, the soups as one."""
    paths = sorted((folder / "fronts").glob("*.json"), key=lambda path: int(path.name.partition("-")[0]))
    measured = [read_front(path) for path in paths]
    soups = [front for front in measured if front.name.startswith("soup")]
    points = tuple(Point(f"{angle:.1f}°", angle=angle) for angle in Arc().even(len(soups)))
    merged = Front("soups", soups[0].attributes, points, np.concatenate([soup.rewards for soup in soups]))
    others = [front for front in measured if not front.name.startswith("soup")]
    return {front.name: front for front in [*others[:3], merged, *others[3:]]}


if __name__ == "__main__":
    study, out = Path(sys.argv[1]), Path(sys.argv[2])
    every, optimum = [fronts_of(folder) for folder in sorted(study.glob("fronts-*"))], best()
    show(every, optimum)
    out.mkdir(parents=True, exist_ok=True)
    draw(every, optimum, out / "fronts.png")
