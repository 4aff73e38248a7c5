"""One self-contained HTML page: sections of text, tables and figures, legible in light and dark."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import jinja2
import matplotlib as mpl
from cycler import Cycler, cycler
from markupsafe import Markup
from matplotlib.figure import Figure

BLUE, ORANGE, GRAY = "C0", "C1", "C3"
COLORS = ("C0", "C1", "C2", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C11", "C3")
"""For runs, in this order."""
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


LIGHT = [
    "#2f6fb3",
    "#c9601a",
    "#2e8555",
    "#8a939c",
    "#8250a8",
    "#b3316a",
    "#9a7b00",
    "#12808f",
    "#7a4a2b",
    "#5b6f1f",
    "#4b4fc4",
    "#c4463a",
]
DARK = [
    "#79b0ea",
    "#f0a15e",
    "#6cc795",
    "#8a939c",
    "#c297eb",
    "#f08bb4",
    "#d9bd4a",
    "#5cc8d6",
    "#c9987a",
    "#b0c46a",
    "#a3a6f5",
    "#f28b82",
]
THEMES = {"light": _theme("#24292f", "#d0d7de", LIGHT), "dark": _theme("#e6e9ec", "#3d444d", DARK)}


class Best(str):
    """A cell that is shown as the best of its kind; for what is better than every other beyond the noise."""


class Table(NamedTuple):
    """A table; all columns but the first are numbers, or words where it says so."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False
    caption: str = ""


class SideBySide(NamedTuple):
    """A prompt and what each model answers, with the reward of each answer."""

    prompt: str
    answers: Sequence[tuple[str, str, float | None]]
    """(model, text, reward); the reward may be unknown."""


class Section(NamedTuple):
    """A part of the page."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Markup] = ()
    keys: Sequence[str] = ()
    """What the colours of the figures stand for, in the order of `COLORS`."""
    comparisons: Sequence[SideBySide] = ()
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
    source = '<source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
    return Markup(f'<picture>{source}<img src="{{light}}" alt="{{alt}}"></picture>').format(**sources, alt=alt)


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write the page; all text in it is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.tests["best"] = lambda cell: isinstance(cell, Best)
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8") + _keys()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{_sha256(style)}'"
    parts: dict[str, object] = {"title": title, "lead": lead, "sections": sections, "colors": len(COLORS)}
    parts |= {"policy": policy, "style": Markup(style)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template("report.html.j2").render(parts), encoding="utf-8")


def markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return the texts and tables of the page as Markdown; what HTML or Markdown could act on is escaped."""
    lines = [f"# {_plain(title)}", "", _plain(lead)]
    for section in sections:
        if section.text or section.tables:
            lines += ["", f"## {_plain(section.title)}", *(["", _plain(section.text)] if section.text else [])]
        for table in section.tables:
            rule = ["---", *(["---" if table.words else "---:"] * (len(table.header) - 1))]
            lines += ["", *([_plain(table.caption), ""] if table.caption else [])]
            lines += [f"| {' | '.join(row)} |" for row in (list(map(_plain, table.header)), rule)]
            lines += [f"| {' | '.join(map(_cell, row))} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def png(data: bytes, alt: str) -> Markup:
    """Return a PNG as HTML."""
    source = "data:image/png;base64," + base64.b64encode(data).decode()
    return Markup('<img src="{source}" alt="{alt}">').format(source=source, alt=alt)


def _keys() -> str:
    """Return the style of the keys, in the colours of the figures."""
    rules = ""
    for name, theme in THEMES.items():
        colors = cast(Cycler, theme["axes.prop_cycle"]).by_key()["color"]
        own = "".join(f".key{i} {{ --key: {colors[int(c[1:])]}; }}\n" for i, c in enumerate(COLORS))
        rules += own if name == "light" else f"@media screen and (prefers-color-scheme: {name}) {{\n{own}}}\n"
    return rules


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _cell(text: str) -> str:
    return f"**{_plain(text)}**" if isinstance(text, Best) else _plain(text)


def _plain(text: str) -> str:
    """Return text on one line with all escaped that begins HTML, code, emphasis, a cell or a link."""
    line = " ".join(text.split()).translate({ord(mark): f"&#{ord(mark)};" for mark in "&<>|*`\\~"})
    return line.replace("](", "]&#40;")
