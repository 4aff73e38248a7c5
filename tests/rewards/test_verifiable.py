"""Rewards that a rule decides, against what a reader says of the same texts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from align.rewards import verifiable
from align.rewards.function_rewards import FunctionRewards
from tests.rewards.test_function_rewards import ASK, row

GSM8K = "Natalia sold 48/2 = <<48/2=24>>24 clips in May, 72 in all.\n#### 72"


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("She sold 48 and 24, so 72.", GSM8K, 1),
        ("#### 72", GSM8K, 1),
        ("#### 24", GSM8K, 0),
        ("72 at first, at last\n#### 1,072.0", "1072", 1),
        (r"So \boxed{\frac{2}{4}}", "0.5", 1),
        (r"\boxed{x^2 + 2x + 1}", "(x+1)^2", 1),
        (r"First \boxed{5}, no, \boxed{6}", "6", 1),
        (r"First \boxed{5}, no, \boxed{6}", "5", 0),
        (r"\boxed{5} and \boxed{6}", "5, 6", 1),
        (r"\boxed{(1, 2)}", "(1,2)", 1),
        (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", 1),
        ("<think>perhaps 1</think>9", 9, 1),
        ("<think>it is 9</think>I do not know.", 9, 0),
        ("It costs $18.", "18 dollars", 1),
        ("0.33", "1/3", 0),
        ("(1, 2)", "(1,2)", 1),
        ("(2, 1)", "(1,2)", 0),
        ("1 + x", "x+1", 1),
        ("B", "B", 1),
        ("A", "B", 0),
        ("3 4", "12", 0),
        ("", "42", 0),
    ],
)
def test_answers_are_equal_as_mathematics(completion: str, answer: Any, right: float) -> None:
    pytest.importorskip("math_verify")
    assert verifiable.math_answer(completion, answer) == right


def test_mathematics_agrees_with_trl_on_boxed_answers() -> None:
    """Its reward reads formulas alone; what both can read they judge alike."""
    pytest.importorskip("math_verify")
    from trl.rewards import accuracy_reward

    texts = [r"\boxed{\frac{1}{3}}", r"It is \boxed{\frac{2}{6}}.", r"\boxed{0.5}", r"\boxed{-\sqrt{4}}", r"\boxed{2}"]
    golds = [r"\frac{1}{3}", r"\frac{1}{3}", r"\frac{1}{3}", "-2", "-2"]
    theirs = accuracy_reward([[{"role": "assistant", "content": t}] for t in texts], [f"${gold}$" for gold in golds])
    assert [verifiable.math_answer(text, gold) for text, gold in zip(texts, golds, strict=True)] == theirs


def test_an_answer_that_is_no_mathematics_is_an_error() -> None:
    pytest.importorskip("math_verify")
    for answer in ("Because of the rain", math.nan):
        with pytest.raises(ValueError, match=rf"'{answer}' cannot be read as mathematics"):
            verifiable.math_answer("42", answer)


@pytest.mark.parametrize(
    ("name", "completion", "settings", "value"),
    [
        ("exact_match", " Paris \n", {"answer": "paris"}, 1),
        ("exact_match", "Paris", {"answer": "paris", "case": True}, 0),
        ("exact_match", "Paris.", {"answer": "Paris"}, 0),
        ("exact_match", "A or B. Answer: (B)", {"answer": "B", "pattern": r"\(([A-D])\)"}, 1),
        ("exact_match", "Answer: 7 no 8", {"answer": 8, "pattern": r"\d"}, 1),
        ("exact_match", "no idea", {"answer": "B", "pattern": r"\(([A-D])\)"}, 0),
        ("matches", "<think>\na\n</think>\nb", {"pattern": r"^<think>.*</think>\s*\S"}, 1),
        ("matches", "b <think>a</think>", {"pattern": "^<think>"}, 0),
        ("contains", "Salt and Pepper", {"must": ["salt", "sugar"]}, 0.5),
        ("contains", "Salt and Pepper", {"must": ["salt"], "must_not": ["PEPPER"]}, 0),
        ("contains", "Salt and Pepper", {"must_not": ["PEPPER"], "case": True}, 1),
        ("length", "one  two\nthree", {}, 3),
        ("length", "One. Two! Is it 3.5?", {"unit": "sentences"}, 3),
        ("length", "a\n\nb", {"unit": "lines"}, 2),
        ("length_within", "a b c", {"at_least": 3, "at_most": 3}, 1),
        ("length_within", "a b c", {"at_most": 2}, 0),
        ("length_within", "abc", {"at_least": 4, "unit": "characters"}, 0),
        ("parses_as_json", '```json\n{"a": [1]}\n```', {"keys": ["a"]}, 1),
        ("parses_as_json", '{"a": 1} done', {}, 0),
        ("parses_as_json", "[1]", {"keys": ["a"]}, 0),
    ],
)
def test_checks_by_hand(name: str, completion: str, settings: dict[str, Any], value: float) -> None:
    assert getattr(verifiable, name)(completion, **settings) == value


@pytest.mark.parametrize(
    ("name", "settings"),
    [("contains", {}), ("contains", {"must": "salt"}), ("length_within", {}), ("length", {"unit": "miles"})],
)
def test_checks_of_nothing_are_errors(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must and must_not|at_least or at_most|unit 'miles'"):
        getattr(verifiable, name)("text", **settings)


def test_vader_has_the_values_of_its_paper_s_code() -> None:
    """The package's own page: 'VADER is smart, handsome, and funny.' has compound .8316, 'Not bad at all' .431."""
    pytest.importorskip("vaderSentiment")
    assert verifiable.sentiment("VADER is smart, handsome, and funny.") == pytest.approx(0.8316)
    assert verifiable.sentiment("Not bad at all") == pytest.approx(0.431)


def test_settings_come_from_arguments_or_columns() -> None:
    scorer = FunctionRewards("align.rewards.verifiable:length_within", arguments={"at_least": 2}, name="length")
    found = scorer.score_examples([row(at_most=2), row(at_most=3), row(at_most=None)], ["a b c"] * 3)
    assert found[:, 0].tolist() == [0, 1, 1]


def test_a_pattern_that_never_ends_is_ended() -> None:
    scorer = FunctionRewards(
        "align.rewards.verifiable:matches", arguments={"pattern": "^(a+)+$"}, time_limit=0.5, on_error="drop"
    )
    with pytest.warns(UserWarning, match=r"did not return within 0.5 s"):
        found = scorer.score([ASK] * 2, ["aaa", "a" * 60 + "b"])[:, 0].tolist()
    assert found[0] == 1
    assert math.isnan(found[1])
