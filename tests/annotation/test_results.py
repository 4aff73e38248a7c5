"""What judgments amount to: by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from align.annotation.annotation_store import RaterJudgment
from align.annotation.items import AnnotationItem, Choice
from align.annotation.results import compare_names, summaries
from align.annotation.votes import mean_outcomes, outcomes, places

A, B, TIE = Choice(0, 1), Choice(1, 0), Choice(None, None)


def item(
    name: str, responses: tuple[str, ...] = ("left", "right"), names: tuple[str, ...] = ("x", "y")
) -> AnnotationItem:
    return AnnotationItem(name, ({"role": "user", "content": name},), responses, names)


def judged(name: str, choice: Choice, rater: str = "ann", order: tuple[int, ...] = (0, 1)) -> RaterJudgment:
    return RaterJudgment(name, rater, choice, order)


class TestVotes:
    def test_best_and_worst_of_four(self) -> None:
        """Best 2, worst 0: 2 beats all, all beat 0, and 1 and 3 were not compared."""
        found = outcomes(item("i", ("a", "b", "c", "d"), tuple("wxyz")), Choice(2, 0))
        assert math.isnan(found.pop((1, 3)))
        assert found == {(0, 1): 0, (0, 2): 0, (0, 3): 0, (1, 2): 0, (2, 3): 1}

    def test_same_text_is_a_tie_whatever_was_said(self) -> None:
        assert outcomes(item("i", ("a", "a", "b"), tuple("xyz")), Choice(0, 1)) == {(0, 1): 0.5, (0, 2): 1, (1, 2): 0}

    def test_means_are_over_those_who_compared(self) -> None:
        four = item("i", ("a", "b", "c", "d"), tuple("wxyz"))
        found = mean_outcomes(four, [Choice(2, 0), Choice(1, 0), TIE])
        assert found[1, 3] == pytest.approx((1 + 0.5) / 2)
        assert found[0, 2] == pytest.approx((0 + 0 + 0.5) / 3)
        assert places(four, [Choice(2, 0), Choice(1, 0), TIE]) == pytest.approx([0.5 / 3, 2 / 3, 2 / 3, 0.5])


class TestComparison:
    def test_by_hand(self) -> None:
        items = [item(str(n)) for n in range(5)]
        said = [judged("0", A), judged("1", A), judged("1", A, "bob"), judged("2", TIE), judged("3", B)]
        found = compare_names(items, said)
        assert list(found) == [("x", "y")]
        result = found["x", "y"]
        assert [result.win.value, result.tie.value, result.lose.value] == [0.5, 0.25, 0.25]
        assert result.win_rate.value == pytest.approx((1 + 1 + 0.5 + 0) / 4)
        assert result.items == 4
        assert result.decided is None

    def test_raters_who_disagree_make_a_tie_and_majorities_win(self) -> None:
        said = [judged("0", A), judged("0", B, "bob"), judged("1", A), judged("1", A, "bob"), judged("1", B, "eve")]
        result = compare_names([item("0"), item("1")], said)["x", "y"]
        assert (result.win.value, result.tie.value) == (0.5, 0.5)
        assert result.win_rate.value == pytest.approx((0.5 + 2 / 3) / 2)

    def test_names_in_the_other_order_count_for_the_same_pair(self) -> None:
        items = [item("0"), item("1", names=("y", "x"))]
        result = compare_names(items, [judged("0", A), judged("1", B)])
        assert list(result) == [("x", "y")]
        assert result["x", "y"].win.value == 1

    def test_items_not_asked_count_as_far_as_raters_have_come(self) -> None:
        same = ("t", "t")
        items = [item("0", same), item("1"), item("2", same), item("3"), item("4", same)]
        half = compare_names(items, [judged("1", A)])["x", "y"]
        assert (half.items, half.tie.value) == (2, 0.5)  # items 0 and 1
        whole = compare_names(items, [judged("1", A), judged("3", A)])["x", "y"]
        assert (whole.items, whole.tie.value) == (5, 0.6)

    def test_responses_of_one_prompt_are_one_row(self) -> None:
        """Best and worst of x, x', y: the prompt's score is the mean of x > y and x' < y, a tie; no x against x'."""
        found = compare_names(
            [item("0", ("a", "b", "c"), ("x", "x", "y"))], [judged("0", Choice(0, 1), order=(0, 1, 2))]
        )
        assert list(found) == [("x", "y")]
        assert (found["x", "y"].items, found["x", "y"].tie.value) == (1, 1)

    def test_a_coin_decides_nothing_and_a_clear_case_does(self) -> None:
        draw = np.random.default_rng(0)
        items = [item(str(n)) for n in range(200)]
        coin = [judged(str(n), A if draw.random() < 0.5 else B) for n in range(200)]
        clear = [judged(str(n), A if draw.random() < 0.7 else B) for n in range(200)]
        assert compare_names(items, coin)["x", "y"].decided is None
        assert compare_names(items, clear)["x", "y"].decided == "a"


def test_what_a_rater_did() -> None:
    rows = [judged("0", A), judged("1", A, order=(1, 0)), judged("2", B, order=(1, 0)), judged("3", TIE)]
    (found,) = summaries(rows)
    assert (found.judged, found.ties, found.first) == (4, 0.25, pytest.approx(2 / 3))
