"""The report of the demo: one HTML page, and the table that is printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from measured import Measured, headline, rewards_elsewhere

from align.evaluation.gold_evaluation import GoldReport
from align.evaluation.report_page import BLUE, GRAY, ORANGE, Section, SideBySide, Table, figure, write_page
from align.evaluation.run_figures import smoothed
from align.evaluation.run_reader import Series
from align.world.optimum import FrontPoint
from align.world.universe import World

Scalars = dict[str, Series]
COLORS = {"base": GRAY, "DPO": BLUE}


class Demo(NamedTuple):
    """What the demo ran and measured."""

    world: World
    commands: Sequence[str]
    reward_model: Scalars
    dpo: Scalars
    gaps: Sequence[tuple[float, float]]
    """Gaps of each held-out pair: the reward model's and the gold reward's."""
    bayes: float
    front: Sequence[FrontPoint]
    sampled: dict[str, GoldReport]
    measured: Measured
    seconds: float


def write(demo: Demo, path: Path) -> str:
    """Write the page and return the table as text."""
    table = gold_table(demo)
    versions = ", ".join(f"{name} {version(name)}" for name in ("align-lm", "torch", "lightning", "transformers"))
    accuracy = demo.reward_model["val/accuracy"][1][-1]
    lead = (
        f"{headline(demo.measured)} The reward model agrees with {accuracy:.1%} of held-out labels; no model expects "
        f"more than {demo.bayes:.1%}."
    )
    sections = [
        Section(
            "Gold rewards",
            "On 160 harmless and 60 harmful held-out prompts, four samples each, at temperature 1 unless said, with 95 "
            "% bootstrap intervals over entities and prompts. The reward is helpfulness plus harmlessness, minus 0.05 "
            "for every word. The base at equal entropy or KL is drawn where temperature alone makes it so.",
            tables=[table],
            figures=[figure(lambda f: rewards(f, demo), alt="Gold rewards of base and DPO with intervals")],
        ),
        Section(
            "Length and divergence",
            "Left: where base and DPO stand, on harmless prompts, against the exact front of helpfulness over words. "
            "Right: reward against KL divergence from the base while DPO trains.",
            figures=[figure(lambda f: trade_offs(f, demo), alt="Helpfulness against words, reward against KL")],
        ),
        Section(
            "Reward model",
            f"Held-out accuracy {accuracy:.3f} against a Bayes accuracy of {demo.bayes:.3f}. A calibrated model lies "
            "on the diagonal: of the pairs it is 80 % sure of, it gets 80 % right.",
            figures=[figure(lambda f: calibration(f, demo), alt="Calibration of the reward model")],
        ),
        Section(
            "Training",
            figures=[figure(lambda f: curves(f, demo), alt="Training curves", size=(9.6, 5.4))],
        ),
        Section("Ten prompts", "One sample each.", comparisons=comparisons(demo)),
        Section("What was run", f"{versions}. {demo.seconds:.0f} s in all.", code="\n".join(demo.commands)),
    ]
    write_page(path, "Preference alignment in the synthetic world", lead, sections)
    verdict = f"reward model: accuracy {accuracy:.3f} on held-out labels, Bayes accuracy {demo.bayes:.3f}"
    widths = [max(len(row[i]) for row in (table.header, *table.rows)) for i in range(len(table.header))]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in (table.header, *table.rows)
    ]
    return "\n".join([*lines, "", headline(demo.measured), verdict])


def gold_table(demo: Demo) -> Table:
    """Return base and DPO side by side."""
    base, policy = demo.sampled["base"], demo.sampled["DPO"]
    lines: dict[str, Callable[[GoldReport], str]] = {
        "reward": lambda r: str(r.reward),
        "share of the optimum": lambda r: f"{r.share_of_optimum(base):.2f}",
        "helpfulness": lambda r: str(r.rewards["helpfulness"]),
        "harmlessness": lambda r: str(r.rewards["harmlessness"]),
        "words": lambda r: str(r.rewards["verbosity"]),
        "harmful prompts refused": lambda r: f"{r.refusal_rate:.2f}",
        "stated facts that are true": lambda r: f"{r.true_facts:.2f}",
        "well-formed answers": lambda r: f"{r.well_formed:.3f}",
        "KL to the base, nats": lambda r: str(r.kl),
    }
    rows = [[name, show(base), show(policy)] for name, show in lines.items()]
    rows[0][0] = "reward at T = 1"
    rows[1:1] = [
        *rewards_elsewhere(demo.measured),
        ["reward of the best policy", f"{base.best:.2f}", f"{policy.best:.2f}"],
    ]
    return Table(["", "base", "after DPO"], rows)


def rewards(canvas: Figure, demo: Demo) -> None:
    """Draw each gold reward with its interval."""
    axes = canvas.subplots(1, 3, width_ratios=(1, 2, 1))
    groups = (("reward",), ("helpfulness", "harmlessness"), ("verbosity",))
    for ax, names in zip(axes, groups, strict=True):
        for shift, (model, report) in enumerate(demo.sampled.items()):
            found = [report.reward if name == "reward" else report.rewards[name] for name in names]
            places = np.arange(len(names)) + 0.3 * (shift - 0.5)
            spread = np.array([[e.value - e.low, e.high - e.value] for e in found]).T
            ax.bar(places, [e.value for e in found], 0.26, color=COLORS[model], label=model)
            ax.errorbar(
                places,
                [e.value for e in found],
                spread,
                fmt="none",
                ecolor=mpl.rcParams["text.color"],
                elinewidth=1.6,
                capsize=3,
            )
        ax.set_xticks(range(len(names)), ["words" if n == "verbosity" else n for n in names])
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.grid(axis="x", visible=False)
    axes[0].axhline(demo.sampled["base"].best, color=ORANGE, linestyle="--", label="best policy")
    axes[0].legend(loc="upper left", bbox_to_anchor=(0, 0.93))


def trade_offs(canvas: Figure, demo: Demo) -> None:
    """Draw the front over helpfulness and words, and reward against KL."""
    left, right = canvas.subplots(1, 2)
    left.plot([p.words for p in demo.front], [p.helpfulness for p in demo.front], color=ORANGE, label="exact front")
    for name, report in demo.sampled.items():
        harmless = [a for a in report.answers if not a.harmful]
        words, helpfulness = (np.mean([getattr(a.gold, k) for a in harmless]) for k in ("verbosity", "helpfulness"))
        left.plot(words, helpfulness, "o", color=COLORS[name])
        left.annotate(name, (words, helpfulness), xytext=(6, 4), textcoords="offset points")
    left.set(xlabel="words", ylabel="helpfulness", xlim=(0, 26))
    left.legend(loc="upper left")
    kl, reward = (demo.dpo[f"gold/{name}"][1] for name in ("kl", "reward"))
    right.plot(kl, reward, "o-", color=BLUE)
    right.set(xlabel="KL to the base, nats per answer", ylabel="gold reward")


def calibration(canvas: Figure, demo: Demo) -> None:
    """Draw how often the reward model is right by how sure it is, and its gaps against the gold gaps."""
    left, right = canvas.subplots(1, 2)
    model, gold = np.array(demo.gaps).T
    sure = 1 / (1 + np.exp(-np.abs(model)))
    edges = np.quantile(sure, np.linspace(0, 1, 9))
    bins = np.clip(np.searchsorted(edges, sure, side="right") - 1, 0, 7)
    points = [(sure[bins == b].mean(), (model[bins == b] > 0).mean(), (bins == b).sum()) for b in range(8)]
    x, y, n = np.array(points).T
    left.plot([0.5, 1], [0.5, 1], color=GRAY, linestyle="--", label="calibrated")
    left.errorbar(x, y, 1.96 * np.sqrt(y * (1 - y) / n), fmt="o-", color=BLUE, capsize=2, label="reward model")
    left.set(xlabel="stated probability", ylabel="share right")
    left.legend()
    right.plot(gold, model, ".", color=BLUE, alpha=0.25, markersize=3, rasterized=True)
    right.set(xlabel="gold gap, chosen - rejected", ylabel="reward model's gap")
    right.set_title(f"correlation {np.corrcoef(model, gold)[0, 1]:.2f}", fontsize=10)


def curves(canvas: Figure, demo: Demo) -> None:
    """Draw the training curves of both methods."""
    plots = (
        ("reward model: loss", demo.reward_model["train/loss"], None),
        ("reward model: accuracy", demo.reward_model["train/accuracy"], demo.bayes),
        ("DPO: loss", demo.dpo["train/loss"], None),
        ("DPO: reward margin", demo.dpo["train/rewards/margins"], None),
    )
    for ax, (title, (steps, values), bound) in zip(canvas.subplots(2, 2).flat, plots, strict=True):
        ax.plot(steps, values, color=BLUE, alpha=0.25, linewidth=0.8)
        ax.plot(steps, smoothed(values), color=BLUE)
        if bound is not None:
            ax.axhline(bound, color=ORANGE, linestyle="--", label="Bayes")
            ax.legend()
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("optimiser step")


def comparisons(demo: Demo) -> list[SideBySide]:
    """Return the first sample of every model for seven harmless and three harmful prompts."""
    first = {name: {a.prompt: a for a in reversed(r.answers)} for name, r in demo.sampled.items()}
    prompts = list(dict.fromkeys(a.prompt for a in demo.sampled["base"].answers))
    return [
        SideBySide(
            "\n".join(f"{m.role}: {m.content}" if len(prompt) > 1 else m.content for m in prompt),
            [(name, answers[prompt].text, answers[prompt].reward) for name, answers in first.items()],
        )
        for prompt in prompts[:7] + prompts[-3:]
    ]
