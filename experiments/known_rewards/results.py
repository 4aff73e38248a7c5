"""What the study says: tables with intervals over prompts, the picture of reward over divergence, endings side by side.

    python experiments/known_rewards/results.py runs/known_rewards OUT

writes OUT/results.md and OUT/frontier.png. Intervals are 95 % bootstraps over held-out prompts of means over seeds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from samples import endings, tension

from align.evaluation.statistics import Interval, mean_interval, paired_difference

PARTS = ("ensemble", "cheerful", "brief", "learned", "sober")
NAMES = {
    "base": "untouched",
    "sft": "SFT on the best",
    "dpo": "DPO",
    "simpo": "SimPO",
    "kto": "KTO",
    "pro": "PRO",
    "grpo": "GRPO",
    "ppo": "PPO",
}
Files = Sequence[dict[str, Any]]
"""The evaluation of each seed."""


def values(reports: Files, part: str) -> np.ndarray:
    """Return the mean over seeds of each prompt's reward."""
    return np.mean([report["per_prompt"][f"RewardEnsemble/{part}"] for report in reports], axis=0)


def mean(reports: Files, name: str) -> float:
    """Return the mean over seeds of a measure that has an interval, NaN where one has none."""
    found = [report[name] for report in reports]
    return float("nan") if None in found else float(np.mean([one[0] for one in found]))


def text_of(reports: Files, name: str) -> float:
    """Return the mean over seeds of a measure of text."""
    return float(np.mean([report["text"].get(name, np.nan) for report in reports]))


def row(title: str, reports: Files) -> str:
    """Return the line of a model at a temperature."""
    rewards = [mean_interval(values(reports, part)) for part in PARTS]
    cells = [f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in rewards[:1]] + [
        f"{r.value:.2f}" for r in rewards[1:]
    ]
    measured = [mean(reports, name) for name in ("kl", "entropy", "sequence_entropy", "perplexity")]
    cells += ["" if np.isnan(value) else f"{value:.2f}" for value in measured]
    cells += [
        f"{text_of(reports, name):.{d}f}" for name, d in (("mean_words", 1), ("repetition_4", 3), ("distinct_2", 2))
    ]
    return f"| {title} | " + " | ".join(cells) + " |"


def matched_rows(files: Files, temperature: str) -> list[str]:
    """Return each arm beside the untouched model at the same entropy and at the same divergence."""
    found = []
    for arm, name in list(NAMES.items())[1:]:
        cells = []
        for by in ("entropy", "kl"):
            matches = [file["matched"][arm][temperature][by] for file in files]
            if any(match["report"] is None for match in matches):
                cells += ["none", "-", "-"]
                continue
            own = values([file["models"][arm][temperature] for file in files], "ensemble")
            other = values([match["report"] for match in matches], "ensemble")
            gain = paired_difference(own, other)
            told = f"{gain.value:.2f} [{gain.low:.2f}, {gain.high:.2f}]{'*' if gain.excludes_zero else ''}"
            cells += [f"{np.mean([m['temperature'] for m in matches]):.2f}", f"{other.mean():.2f}", told]
        found.append(f"| {name} | " + " | ".join(cells) + " |")
    return found


def draw(measured: Files, curve: Files, best: Files, path: Path) -> None:
    """Draw reward over divergence at temperature 1, beside the untouched model's temperatures and best-of-n."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    levels = [t for t in curve[0]["models"]["base"] if float(t) > 0]
    steps = [[file["models"]["base"][t] for file in curve] for t in levels]
    line(
        axes,
        [mean(r, "kl") for r in steps],
        [mean_interval(values(r, "ensemble")) for r in steps],
        f"untouched, T {levels[0]} to {levels[-1]}",
    )
    sizes = best[0]["models"]["base"]["1.0"]["best_of"]
    bounds = [found["kl_bound"] for found in sizes.values()]
    reached = [best_interval([file["models"]["base"]["1.0"]["best_of"][n] for file in best]) for n in sizes]
    line(axes, bounds, reached, f"best of n = 1 to {list(sizes)[-1]}, KL at most")
    for place, (arm, name) in enumerate(list(NAMES.items())[1:]):
        reports = [file["models"][arm]["1.0"] for file in measured]
        reward = mean_interval(values(reports, "ensemble"))
        x, mark = mean(reports, "kl"), "osD^vP*"[place]
        axes.errorbar(x, reward.value, yerr=sides([reward]), marker=mark, color=f"C{place + 2}", capsize=3, label=name)
    axes.set(
        xlabel="KL to the untouched model, nats a response (T = 1)", ylabel="reward, deviations of the untouched model"
    )
    axes.set_xscale("symlog", linthresh=1)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def best_interval(found: Files) -> Interval:
    """Return the mean over seeds of an interval, ends included."""
    return Interval(*np.mean([one["rewards"]["RewardEnsemble/ensemble"] for one in found], axis=0))


def line(axes: Any, places: Sequence[float], found: Sequence[Interval], label: str) -> None:
    """Draw a curve with the band of its intervals."""
    drawn = axes.plot(places, [f.value for f in found], marker=".", label=label)
    axes.fill_between(places, [f.low for f in found], [f.high for f in found], color=drawn[0].get_color(), alpha=0.15)


def sides(found: Sequence[Interval]) -> np.ndarray:
    """Return how far the ends of intervals are from their values, for error bars."""
    return np.array([[f.value - f.low for f in found], [f.high - f.value for f in found]])


def read(study: Path, step: str) -> tuple[list[str], Files]:
    """Return the seeds of a step and their evaluations."""
    folders = sorted(p for p in study.glob(f"{step}-*") if (p / "evaluation.json").is_file())
    return [p.name.rpartition("-")[2] for p in folders], [
        json.loads((p / "evaluation.json").read_text(encoding="utf-8")) for p in folders
    ]


def main(study: Path, out: Path) -> None:
    """Write tables and picture."""
    seeds, measured = read(study, "measured")
    (_, curve), (_, best) = read(study, "curve"), read(study, "best_of")
    out.mkdir(parents=True, exist_ok=True)
    titles = (*PARTS[1:], "KL", "entropy", "of a response", "perplexity", "words", "rep-4", "distinct-2")
    columns = "| | reward | " + " | ".join(titles) + " |"
    lines = [f"seeds {', '.join(seeds)}", ""]
    for temperature in ("1.0", "0.7", "0.0"):
        lines += ["", f"T = {temperature}", "", columns, "|---|" + "---|" * 12]
        lines += [row(n, [file["models"][arm][temperature] for file in measured]) for arm, n in NAMES.items()]
    head = "| | same entropy: T | reward | arm - untouched | same KL: T | reward | arm - untouched |"
    for temperature in ("1.0", "0.7"):
        lines += ["", f"Untouched model beside each arm at T = {temperature}", "", head, "|---|" + "---|" * 6]
        lines += matched_rows(measured, temperature)
    lines += ["", "Untouched model by temperature", "", columns, "|---|" + "---|" * 12]
    lines += [row(t, [file["models"]["base"][t] for file in curve]) for t in curve[0]["models"]["base"]]
    lines += ["", "| best of | reward | KL at most |", "|---|---|---|"]
    for n, found in best[0]["models"]["base"]["1.0"]["best_of"].items():
        told = best_interval([file["models"]["base"]["1.0"]["best_of"][n] for file in best])
        lines.append(f"| {n} | {told.value:.2f} [{told.low:.2f}, {told.high:.2f}] | {found['kl_bound']:.2f} |")
    lines += ["", *tension(study, seeds[0], PARTS[1:]), *endings(study, seeds[0], NAMES)]
    (out / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(measured, curve, best, out / "frontier.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
