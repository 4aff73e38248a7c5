"""Markdown of a study's page: figures with intervals, and what stands between two marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.errors import DataError
from align.studies.page_text import StudyPage, interval, mean, put, table

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


def test_a_page_is_written_from_the_tables_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("gold", "cost"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.json").write_text(json.dumps({"rows": {"DPO": {name: WHOLE}}}))
    page = tmp_path / "page.md"
    page.write_text("<!-- a -->\n<!-- b -->\n")
    study = StudyPage(
        ("gold", "cost"),
        ("<!-- a -->", "<!-- b -->"),
        lambda found: mean(found["cost"]["DPO"]["cost"]),
        lambda found, path: path.write_text(interval(found["gold"]["DPO"]["gold"])) and None,
        "curve.png",
    )
    words = [str(tmp_path / name) for name in ("out", "gold", "cost")]
    study.write([*words, str(page)])
    assert page.read_text() == "<!-- a -->\n\n1.26\n\n<!-- b -->\n"
    assert (tmp_path / "out/curve.png").read_text() == "1.26 [1.00, 1.50]"
    assert list(json.loads((tmp_path / "out/figures.json").read_text())) == ["gold", "cost"]
    assert capsys.readouterr().out == "1.26\n"
    for wrong in (words[:2], [*words, str(page), "more"]):
        with pytest.raises(DataError, match="expected OUT, folders of gold, cost and perhaps a page"):
            study.write(wrong)
