"""Directions on an arc, and prompts that ask for them: worked numbers, and what is written is read back."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import kstest

from align.errors import ConfigError
from align.records import Arc, Message, Tally, TwoDigits, WeightedRating
from align.records.conditioning_base import Conditioning
from align.records.conditions import conditioning_of
from align.records.reward_directions import along, angle_of, parse_direction, unit

USER = (Message("user", "Hi"),)


def test_directions_are_uniform_on_the_arc() -> None:
    angles = Arc().draw(random.Random(0), 2000)
    assert kstest([(a + 45) / 45 for a in angles], "uniform").pvalue > 0.01
    vectors = [unit(a) for a in angles]
    assert all(abs(math.hypot(*v) - 1) < 1e-12 for v in vectors)
    assert all(math.sqrt(0.5) - 1e-12 <= v[0] <= 1 and -math.sqrt(0.5) - 1e-12 <= v[1] <= 0 for v in vectors)
    means = [sum(v[i] for v in vectors) / 2000 for i in (0, 1)]
    assert means == pytest.approx([0.9003, -0.3729], abs=0.01)  # sin 45 / (pi/4), -(1 - cos 45) / (pi/4)


def test_even_steps_and_ends() -> None:
    assert Arc().even(10) == [0.0, *range(-5, -46, -5)]
    assert Arc().holds(-45)
    assert not Arc().holds(-46)
    assert angle_of((0.8, -0.6)) == pytest.approx(-36.8699)
    assert angle_of((8, -6)) == pytest.approx(-36.8699)
    assert along(-30, (66, 45)) == pytest.approx(34.658, abs=5e-4)
    for wrong in ((0.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(ConfigError, match="not both 0"):
            angle_of(wrong)
    with pytest.raises(ConfigError, match="low must lie below high"):
        Arc(0, -45)


@pytest.mark.parametrize(
    ("angle", "written"),
    [(0, "100 + verbosity*0"), (-15, "97 + verbosity*-26"), (-30, "87 + verbosity*-50"), (-45, "71 + verbosity*-71")],
)
def test_the_released_form(angle: float, written: str) -> None:
    clause = WeightedRating().direction(angle)
    assert clause == f"Your response should maximize weighted rating = helpfulness*{written}"
    text = WeightedRating().apply(USER, clause)[0]
    assert text.role == "system"
    assert text.content.startswith("You are a helpful, respectful, and honest assistant")
    assert text.content.endswith(written)


def test_decimals() -> None:
    assert WeightedRating(decimals=True).direction(angle_of((0.8, -0.6))).endswith("helpfulness*0.80 - verbosity*0.60")


@pytest.mark.parametrize("form", [WeightedRating(), WeightedRating(decimals=True), TwoDigits()])
def test_what_is_written_is_read_back(form: Conditioning) -> None:
    for angle in Arc().draw(random.Random(1), 200):
        read = form.read_direction(form.apply(USER, form.direction(angle))[0].content)
        assert read == pytest.approx(angle, abs=0.6)
    assert form.read_direction("nothing") is None
    ratings = form.apply(USER, form.ratings((70.4, 24.5)))[0].content
    assert form.read_ratings(ratings) == {"helpfulness": 70, "verbosity": 25}
    assert form.read_ratings(form.ratings((math.nan, 3.2))) == {"verbosity": 3}
    assert form.ratings((math.nan, math.nan)) == ""
    assert form.read_ratings(form.ratings((-4, 400)))["helpfulness"] == 0
    assert conditioning_of(form.plain()) == form


def test_integers_keep_the_norm() -> None:
    for angle in Arc().draw(random.Random(2), 500):
        weights = [float(part.split("*")[1]) for part in WeightedRating().direction(angle).split(" = ")[1].split(" + ")]
        assert math.hypot(*weights) / 100 == pytest.approx(1, abs=0.01)


def test_two_digits_spread_over_the_arc() -> None:
    form = TwoDigits()
    assert [form.direction(a) for a in (0, -45, -90, 10)] == [
        "helpfulness 99 verbosity 00",
        "helpfulness 00 verbosity 99",
        "helpfulness 00 verbosity 99",
        "helpfulness 99 verbosity 00",
    ]
    tens = {form.direction(a).split()[1][0] for a in Arc().even(10)}
    assert len(tens) == 10  # every step of five degrees has another first digit


def test_a_tally_shares_its_words_out() -> None:
    form = Tally(attributes=("a", "b"), length=4)
    assert [form.direction(angle) for angle in (0, -12, -22.5, -45, -60)] == [
        "a a a a",
        "a a a b",
        "a a b b",
        *["b b b b"] * 2,
    ]
    assert form.read_direction("a a b b") == -22.5
    assert form.read_direction("c") is None
    assert form.ratings((80, 30)) == "a a a b"
    assert form.ratings((math.nan, 100)) == "b b b b"
    assert form.read_ratings("a a a b") == {"a": 75, "b": 25}
    steps = [Tally().direction(angle) for angle in Arc().even(10)]
    assert len(set(steps)) == 10
    for angle in Arc().draw(random.Random(3), 100):
        assert Tally().read_direction(Tally().direction(angle)) == pytest.approx(angle, abs=45 / 24 + 1e-9)
    assert conditioning_of(form.plain()) == form


def test_where_the_text_stands() -> None:
    known = (Message("system", "Be brief."), *USER)
    assert TwoDigits().apply(known, "x")[0].content == "Be brief.\n\nx"
    assert TwoDigits().apply(USER, "") == USER
    assert WeightedRating().apply(USER)[0].content.endswith("harmless way.")  # replay: the base sentence alone
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    placed = TwoDigits(placement="user").apply(turns, "x")
    assert [m.content for m in placed] == ["x\n\na", "b", "c"]


def test_directions_by_hand() -> None:
    names = ("helpfulness", "verbosity")
    for text in ("0.8,-0.6", "4,-3", "verbosity=-0.6,helpfulness=0.8", " helpfulness=8, verbosity=-6"):
        assert parse_direction(text, names) == pytest.approx(-36.8699)
    assert parse_direction("helpfulness=1", names) == 0
    for wrong in ("a,b", "1,2,3", "wit=1", "helpfulness=1,helpfulness=2", ""):
        with pytest.raises(ConfigError, match="expected two weights"):
            parse_direction(wrong, names)


def test_prompts_may_call_rewards_otherwise() -> None:
    form = WeightedRating(attributes=("uf-helpfulness", "hs-verbosity"), words=("helpfulness", "verbosity"))
    assert form.direction(-15) == WeightedRating().direction(-15)
    assert form.read_ratings(form.ratings((1, 2))) == {"helpfulness": 1, "verbosity": 2}
    assert conditioning_of(form.plain()) == form


def test_bad_settings() -> None:
    with pytest.raises(ConfigError, match="two different rewards"):
        TwoDigits(attributes=("a", "a"))
    for wrong in ({"form": "Odd"}, {"form": "TwoDigits"}, {**TwoDigits().plain(), "extra": 1}):
        with pytest.raises(ValueError, match="conditioning"):
            conditioning_of(wrong)
