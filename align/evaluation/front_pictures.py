"""Pictures of fronts: asked against achieved, and several models in the plane of two rewards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from matplotlib.figure import Figure

from align.evaluation.fronts import Front

MARKS = "osD^vP*X<>"


def control_picture(front: Front, names: Sequence[str]) -> Figure:
    """Draw the mean of each reward over what was asked for, with 95 % intervals over prompts, and the front."""
    pairs = list(combinations(names, 2))
    figure = Figure(figsize=(3.7 * (len(names) + len(pairs)), 3.4), layout="constrained")
    panels = figure.subplots(1, len(names) + len(pairs))
    angles = [p.angle for p in front.points if isinstance(p.angle, (int, float))]
    places = angles or list(range(len(front.points)))
    intervals = front.intervals()
    asked = "ratings" if all(p.angle is None for p in front.points) else "direction"
    for name, panel in zip(_plain(names), panels, strict=False):
        found = [row[front.attributes.index(name)] for row in intervals]
        below, above = [f.value - f.low for f in found], [f.high - f.value for f in found]
        panel.errorbar(places, [f.value for f in found], yerr=[below, above], marker="o", capsize=2)
        panel.set(xlabel="angle asked for, degrees" if angles else f"{asked} asked for", ylabel=name)
        if not angles:
            panel.set_xticks(places, [p.label for p in front.points], rotation=90 * (len(names) > 2), fontsize=8)
    for pair, panel in zip(pairs, panels[len(names) :], strict=True):
        draw_fronts(panel, [front], pair, labels=True)
    return figure


def front_picture(fronts: Sequence[Front], names: Sequence[str]) -> Figure:
    """Draw the means of every model in the plane of every two rewards."""
    pairs = list(combinations(names, 2))
    figure = Figure(figsize=(7 * len(pairs), 5), layout="constrained")
    for pair, axes in zip(pairs, figure.subplots(1, len(pairs), squeeze=False)[0], strict=True):
        draw_fronts(axes, fronts, pair)
        axes.legend(fontsize=8)
    return figure


def draw_fronts(axes: Any, fronts: Sequence[Front], names: Sequence[str], *, labels: bool = False) -> None:
    """Draw on axes: the second reward to the right and the first one up, as in the paper's figure 4."""
    first, second = _plain(names)
    for place, front in enumerate(fronts):
        means = front.rewards.mean(1)
        x, y = (means[:, front.attributes.index(name)] for name in (second, first))
        mark = MARKS[place % len(MARKS)]
        axes.plot(x, y, marker=mark, linestyle="-" if len(x) > 1 else "none", label=front.name)
        for point, a, b in zip(front.points, x, y, strict=True) if labels else ():
            axes.annotate(point.label, (a, b), fontsize=7, xytext=(3, -9), textcoords="offset points")
    axes.set(xlabel=second, ylabel=first)


def _plain(names: Sequence[str]) -> list[str]:
    return [name.lstrip("-") for name in names]
