"""Markdown of a study's page: figures with intervals, and what stands between two marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.errors import DataError
from align.studies.page_text import interval, mean, put, table

WHOLE = {"mean": 1.256, "low": 1.0, "high": 1.5, "values": {"0": 1.2, "1": 1.3}, "seeds": 2}


def test_a_figure_says_which_seeds_have_it() -> None:
    assert interval(WHOLE) == "1.26 [1.00, 1.50]"
    assert interval({**WHOLE, "seeds": 3}, 1) == "1.3 [1.0, 1.5] (2 of 3 seeds)"
    assert interval({"mean": None, "low": None, "high": None, "values": {}, "seeds": 2}) == interval(None) == "-"
    once = {**WHOLE, "values": {"0": 1.256}, "seeds": 1}
    assert interval({**once, "over": "seeds"}) == "1.26"
    assert interval({**once, "over": "seeds, entities, prompts"}) == "1.26 [1.00, 1.50]"
    assert (mean(WHOLE, 0), mean(None)) == ("1", "-")
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- b -->\nafter\n")
    put(page, ("<!-- a -->", "<!-- b -->"), "new")
    assert page.read_text() == "before\n<!-- a -->\n\nnew\n\n<!-- b -->\nafter\n"
    for marks in (("<!-- c -->", "<!-- b -->"), ("<!-- b -->", "<!-- a -->")):
        with pytest.raises(DataError, match="expected the marks"):
            put(page, marks, "lost")
    assert "new" in page.read_text()
