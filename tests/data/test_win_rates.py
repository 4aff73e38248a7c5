"""Win rates of the data's own order, by hand, and what keeps the ones it has."""

from __future__ import annotations

import pytest

from align.data.drop_report import Report
from align.data.win_rate_rows import WinRateRows
from align.records import Example, Message


def example(**more: object) -> Example:
    return Example("x", (Message("user", "q"),), ("a", "b", "c"), **more)


def rates(view: WinRateRows, given: Example) -> list[float]:
    return [row.scores[0][0] for row in view.apply([given], Report())]


TWO = {"attributes": ("one", "two"), "scores": ((4.0, 1.0), (2.0, 1.0), (2.0, 5.0)), "ranking": ((0,), (1, 2))}
ONE = {"attributes": ("win",), "scores": ((0.9,), (0.4,), (0.2,)), "ranking": ((0,), (1,), (2,))}


def test_by_hand() -> None:
    """The first wins twice and is even with itself: (.5 + 1 + 1) / 3; the others are even: (0 + .5 + .5) / 3."""
    assert rates(WinRateRows(), example(**TWO)) == pytest.approx([2.5 / 3, 1 / 3, 1 / 3])
    assert rates(WinRateRows(), example(ranking=((2,), (0,), (1,)))) == pytest.approx([0.5, 0.5 / 3, 2.5 / 3])


def test_one_score_is_taken_as_it_is_unless_told() -> None:
    assert rates(WinRateRows(), example(**ONE)) == [0.9, 0.4, 0.2]
    assert rates(WinRateRows("always"), example(**ONE)) == pytest.approx([2.5 / 3, 0.5, 0.5 / 3])
    drawn = {**ONE, "origins": ("policy@1",) * 3}
    assert rates(WinRateRows("always"), example(**drawn)) == [0.9, 0.4, 0.2]


def test_empty_responses_have_no_say() -> None:
    given = Example("x", (Message("user", "q"),), ("a", " ", "c"), ranking=((1,), (0,), (2,)))
    assert rates(WinRateRows(), given) == pytest.approx([0.75, 0.25])


def test_no_order_is_told() -> None:
    report = Report()
    assert WinRateRows().apply([example(attributes=("a", "b"), scores=((1.0, 2.0),) * 3)], report) == []
    assert dict(report.dropped) == {"no order of responses that would give win rates": 1}
