"""The report page: self-contained, escaped, and the same for the same input."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib.figure import Figure

from align.evaluation.report_page import Section, SideBySide, Table, figure, write_page


def line(canvas: Figure) -> None:
    canvas.subplots().plot([0, 1], [1, 0], label="<a line>")


def page(path: Path) -> str:
    sections = [
        Section(
            "Numbers", "All & sundry", tables=[Table(["", "a"], [["<b>", "1.0"]])], figures=[figure(line, alt='"x"')]
        ),
        Section("Cases", comparisons=[SideBySide("say <script>", [("base", "", -1.0), ("DPO", "<i>hm</i>", 2.0)])]),
        Section("Run", code="align fit <now>"),
    ]
    write_page(path, "A <title>", "lead", sections)
    return path.read_text()


def test_everything_is_escaped_and_inside(tmp_path: Path) -> None:
    text = page(tmp_path / "deep" / "report.html")
    body = text.split("<body>", 1)[1]
    for typed in ("<script>", "<i>hm</i>", "<b>", "<now>"):
        if typed != "<b>":  # the page's own markup has it too
            assert typed not in body
    assert "&lt;b&gt;" in body
    assert "A &lt;title&gt;" in text
    assert not re.search(r'(src|href|srcset)="(?!data:)', text)  # nothing is fetched
    assert "(nothing)" in body
    assert "+2.00" in body
    assert "-1.00" in body


def test_figures_come_in_two_themes_and_are_reproducible() -> None:
    html = figure(line, alt="falls")
    light, dark = re.search('src="data:([^"]+)"', html), re.search('srcset="data:([^"]+)"', html)
    assert light is not None
    assert dark is not None
    assert light.group(1) != dark.group(1)
    assert 'alt="falls"' in html
    assert html == figure(line, alt="falls")
