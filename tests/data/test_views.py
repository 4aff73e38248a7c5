"""Views: what is made of an example, and what is dropped by which reason."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from align.data.source import Report
from align.data.views import Pairs, PromptsOnly, RankedLists, RegressionRows, Singles, Unpaired, View
from align.records import Example, Message

USER = (Message("user", "Hi"),)


def listed(*responses: str, ranking: tuple = (), scores: tuple = (), attributes: tuple = ("score",)) -> Example:
    return Example("e", USER, responses, attributes=attributes if scores else (), scores=scores, ranking=ranking)


FOUR = listed("a", "b", "c", "d", ranking=((2,), (0, 3), (1,)), scores=((2.0,), (0.0,), (3.0,), (2.0,)))


def responses(view: View, example: Example) -> list[tuple[str, ...]]:
    return [group.responses for group in view.groups(example)]


def reason(view: View, example: Example) -> str:
    report = Report()
    assert view.apply([example], report) == []
    (only,) = report.dropped
    return only


class TestPairs:
    def test_selections(self) -> None:
        assert responses(Pairs("all"), FOUR) == [
            ("c", "a"),
            ("c", "d"),
            ("c", "b"),
            ("a", "b"),
            ("d", "b"),
        ]  # not (a, d)
        assert responses(Pairs("best_worst"), FOUR) == [("c", "b")]
        assert responses(Pairs(), FOUR)[0][0] == "c"
        assert responses(Pairs(), FOUR) == responses(Pairs(), FOUR)
        assert len({g.id for g in Pairs("all").groups(FOUR)}) == 5

    def test_scores_follow_their_responses(self) -> None:
        (pair,) = Pairs("best_worst").groups(FOUR)
        assert (pair.scores, pair.ranking) == (((3.0,), (0.0,)), ((0,), (1,)))

    @pytest.mark.parametrize(
        ("example", "expected"),
        [
            (listed("a", "b", ranking=((0, 1),)), "tied responses"),
            (listed("a", "a", ranking=((0,), (1,))), "identical responses"),
            (listed("", "b", ranking=((0,), (1,))), "empty response"),
            (listed("a", " \n", ranking=((0,), (1,))), "empty response"),
            (listed("a", "b\0", ranking=((0,), (1,))), "NUL character in the text"),
            (listed("a", "b"), "no ranking"),
            (listed("a"), "fewer than two responses"),
            (listed(), "fewer than two responses"),
        ],
    )
    def test_reasons(self, example: Example, expected: str) -> None:
        assert reason(Pairs(), example) == expected


class TestRankedLists:
    def test_order_ties_and_limit(self) -> None:
        (group,) = RankedLists().groups(FOUR)
        assert (group.responses, group.ranks) == (("c", "a", "d", "b"), (0, 1, 1, 2))
        assert responses(RankedLists(2), FOUR) == [("c", "a")]

    def test_later_duplicates_are_left_out(self) -> None:
        example = listed("a", "b", "a", "c", ranking=((0,), (1,), (2,), (3,)))
        (group,) = RankedLists().groups(example)
        assert (group.responses, group.ranks) == (("a", "b", "c"), (0, 1, 2))

    def test_reasons(self) -> None:
        assert reason(RankedLists(), listed("a", "b", ranking=((0, 1),))) == "tied responses"
        assert reason(RankedLists(), listed("a")) == "fewer than two responses"
        with pytest.raises(ValueError, match="max_responses"):
            RankedLists(1)


def test_singles() -> None:
    assert responses(Singles(), FOUR) == [("c",)]
    assert responses(Singles("all"), FOUR) == [("a",), ("b",), ("c",), ("d",)]
    assert responses(Singles(), listed("a")) == [("a",)]
    assert reason(Singles(), listed("a", "b")) == "no ranking says which response is best"
    assert reason(Singles(), listed("", "b", ranking=((0,), (1,)))) == "empty response"
    assert reason(Singles(), listed()) == "no response"


def test_prompts_regression_rows_and_unpaired() -> None:
    assert responses(PromptsOnly(), FOUR) == [()]
    partly = listed("a", "b", "", scores=((math.nan, 1.0), (math.nan, math.nan), (1.0, 1.0)), attributes=("x", "y"))
    assert responses(RegressionRows(), partly) == [("a",)]
    assert reason(RegressionRows(), listed("a")) == "no scores"
    assert [(g.responses, g.scores) for g in Unpaired().groups(FOUR)] == [(("c",), ((1.0,),)), (("b",), ((0.0,),))]
    labelled = listed("a", scores=((0.0,),), attributes=("desirable",))
    assert [g.scores for g in Unpaired().groups(labelled)] == [((0.0,),)]
    assert reason(Unpaired(), listed("a")) == "no label"


def test_every_example_is_kept_or_counted() -> None:
    examples = [FOUR, listed("a"), listed("a", "b", ranking=((0, 1),)), listed("", "x", ranking=((0,), (1,)))]
    for view in (Pairs("best_worst"), RankedLists(), Singles(), PromptsOnly(), RegressionRows()):
        report = Report()
        kept = view.apply(examples, report)
        assert len({g.id for g in kept}) <= report.kept == len(kept)
        assert sum(report.dropped.values()) + len(kept) >= len(examples)
    report = Report()
    Pairs().apply(examples, report)
    assert report.dropped == Counter({"fewer than two responses": 1, "tied responses": 1, "empty response": 1})
