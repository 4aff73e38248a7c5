"""The figures of a report on runs; run number i has colour i of the page's keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from align.evaluation.fronts import Front
from align.evaluation.report_page import COLORS, figure
from align.evaluation.run_reader import Series
from align.evaluation.statistics import Interval

MOST_POINTS = 400
LONG = 24
"""Series with more points than this are smoothed."""
WINDOW, DECAY = 40, 8.0
PANEL = (4.8, 2.7)


def smoothed(values: Sequence[float]) -> list[float]:
    """Return exponentially weighted means over the 40 values up to each, with a memory of eight."""
    weights = np.exp(-np.arange(WINDOW) / DECAY)
    return [
        float(np.average(values[max(0, i - WINDOW + 1) : i + 1][::-1], weights=weights[: i + 1]))
        for i in range(len(values))
    ]


def curves(title: str, series: Mapping[int, Series]) -> Markup:
    """Return one logged quantity over steps; long series are smoothed, the raw values stay faint behind."""

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        for place, found in series.items():
            color, style = COLORS[place % len(COLORS)], "-" if place < len(COLORS) else "--"
            every = max(1, len(found.steps) // MOST_POINTS)
            long = len(found.steps) > LONG
            shown = smoothed(found.values) if long else found.values
            if long and len(series) < 4:
                axes.plot(found.steps[::every], found.values[::every], color=color, alpha=0.2, linewidth=0.8)
            axes.plot(
                found.steps[::every], shown[::every], style, color=color, marker="" if long else ".", linewidth=1.6
            )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("optimiser step")

    return figure(draw, alt=f"{title} over optimiser steps", size=PANEL)


def intervals(title: str, rows: Sequence[tuple[str, int, Interval]]) -> Markup:
    """Return means with their intervals, one row each: label, number of the run, value."""

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        for height, (_, place, value) in enumerate(rows):
            spread = np.array([[value.value - value.low], [value.high - value.value]]).clip(0)
            color = COLORS[place % len(COLORS)]
            axes.errorbar(value.value, -height, xerr=spread, fmt="o", color=color, capsize=3, elinewidth=1.6)
        axes.set_yticks([-i for i in range(len(rows))], [_short(label) for label, _, _ in rows])
        axes.set_ylim(0.6 - len(rows), 0.6)
        axes.grid(axis="y", visible=False)
        axes.set_title(title, fontsize=10)

    return figure(draw, alt=f"{title} with 95 % intervals", size=(PANEL[0], 0.9 + 0.28 * len(rows)))


def fronts(found: Sequence[Front], axes_of: tuple[str, str]) -> Markup:
    """Return the mean rewards of every point, with intervals over prompts."""

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        for place, front in enumerate(found):
            x, y = ([row[front.attributes.index(name)] for row in front.intervals()] for name in axes_of)
            spread = [np.array([[v.value - v.low, v.high - v.value] for v in side]).T.clip(0) for side in (x, y)]
            color = COLORS[place % len(COLORS)]
            axes.errorbar(
                [v.value for v in x], [v.value for v in y], spread[1], spread[0], fmt="o-", color=color, elinewidth=0.8
            )
            for i in sorted({0, len(x) - 1}):
                axes.annotate(
                    _short(front.points[i].label),
                    (x[i].value, y[i].value),
                    xytext=(5, 5),
                    textcoords="offset points",
                    fontsize=8,
                )
        axes.set(xlabel=_short(axes_of[0]), ylabel=_short(axes_of[1]))

    return figure(draw, alt="Mean rewards of every point", size=(7.2, 4.2))


def layers(measure: str, runs: Mapping[int, Mapping[int, float]]) -> Markup:
    """Return a measure of representation alignment by layer, at the end of training."""

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        for place, found in runs.items():
            axes.plot(list(found), list(found.values()), "o-", color=COLORS[place % len(COLORS)])
        axes.set_xticks(sorted({layer for found in runs.values() for layer in found}))
        axes.set_title(measure, fontsize=10)
        axes.set_xlabel("layer")

    return figure(draw, alt=f"{measure} by layer", size=PANEL)


def heat(title: str, series: Mapping[int, Series]) -> Markup:
    """Return a measure by layer (rows) and training step (columns)."""
    names = sorted(series)
    draw: Callable[[Figure], None] = partial(_draw_heat, title, names, [series[name] for name in names])
    return figure(draw, alt=f"{title} by layer and step", size=(PANEL[0], 1.3 + 0.22 * len(names)))


def _draw_heat(title: str, names: list[int], rows: list[Series], canvas: Figure) -> None:
    axes = canvas.subplots()
    columns = min(MOST_POINTS // 4, *(len(row.values) for row in rows))
    table = np.array([[np.mean(part) for part in np.array_split(row.values, columns)] for row in rows])
    edge = (min(row.steps[0] for row in rows), max(row.steps[-1] for row in rows))
    extent = (*edge, -0.5, len(names) - 0.5)
    image = axes.imshow(table, aspect="auto", origin="lower", extent=extent, cmap="viridis", interpolation="nearest")
    axes.set_yticks(range(len(names)), list(map(str, names)))
    axes.set(xlabel="optimiser step", ylabel="layer")
    axes.set_title(title, fontsize=10)
    axes.grid(visible=False)
    canvas.colorbar(image)


def _short(label: str) -> str:
    """Return a label that fits, with nothing in it that matplotlib would read as mathematics."""
    line = " ".join(label.split()).replace("$", r"\$")
    return line if len(line) <= 28 else line[:27] + "…"
