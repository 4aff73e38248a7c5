"""One self-contained HTML page: sections of text, tables and figures, legible in light and dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import matplotlib as mpl
from cycler import cycler
from markupsafe import Markup
from matplotlib.figure import Figure

BLUE, ORANGE, GRAY = "C0", "C1", "C3"
_SHARED = {
    "svg.hashsalt": "align",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "savefig.dpi": 150,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def _theme(ink: str, faint: str, colors: Sequence[str]) -> dict[str, object]:
    inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor")
    cycle = cycler(color=list(colors))
    return {
        **_SHARED,
        **dict.fromkeys(inks, ink),
        "axes.edgecolor": faint,
        "grid.color": faint,
        "axes.prop_cycle": cycle,
    }


THEMES = {
    "light": _theme("#24292f", "#d0d7de", ("#2f6fb3", "#c9601a", "#2e8555", "#8a939c")),
    "dark": _theme("#e6e9ec", "#3d444d", ("#79b0ea", "#f0a15e", "#6cc795", "#8a939c")),
}


class Table(NamedTuple):
    """A table; all columns but the first are numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Comparison(NamedTuple):
    """A prompt and what each model answers, with the reward of each answer."""

    prompt: str
    answers: Sequence[tuple[str, str, float]]
    """(model, text, reward)."""


class Section(NamedTuple):
    """A part of the page."""

    title: str
    text: str = ""
    table: Table | None = None
    figures: Sequence[Markup] = ()
    comparisons: Sequence[Comparison] = ()
    code: str = ""


def figure(draw: Callable[[Figure], None], *, alt: str, size: tuple[float, float] = (9.6, 3.2)) -> Markup:
    """Return a figure as HTML, drawn once for light and once for dark pages; colours are `C0` to `C3`.

    Args:
        draw: Draws on an empty figure.
        alt: What the figure shows, for those who do not see it.
        size: Width and height in inches.
    """
    sources = {}
    for name, theme in THEMES.items():
        with mpl.rc_context(theme):
            canvas = Figure(figsize=size, layout="constrained")
            draw(canvas)
            buffer = io.BytesIO()
            canvas.savefig(buffer, format="svg", metadata={"Date": None})
        sources[name] = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    source = '<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    return Markup(f'<picture>{source}<img src="{{light}}" alt="{{alt}}"></picture>').format(**sources, alt=alt)


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write the page; all text in it is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("report.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(title=title, lead=lead, sections=sections), encoding="utf-8")
