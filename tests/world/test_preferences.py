"""Labels: closed-form probabilities, frequencies of draws, Bayes accuracy, ratings."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from align.errors import ConfigError
from align.world.gold_rewards import Gold, read
from align.world.preferences import RATED, Preferences, rating
from align.world.universe import World


def test_pairs_are_bradley_terry() -> None:
    p = Preferences(temperature=2.0)
    assert p.probability(3.0) == pytest.approx(1 / (1 + math.exp(-1.5)))
    draw = random.Random(0)
    first = sum(p.rank([3.0, 0.0], draw)[0] == 0 for _ in range(20_000)) / 20_000
    assert first == pytest.approx(p.probability(3.0), abs=0.012)  # 4 standard errors


def test_lists_are_plackett_luce() -> None:
    rewards, draw, count = [1.0, 0.0, -0.5], random.Random(1), 30_000
    drawn = [tuple(Preferences().rank(rewards, draw)) for _ in range(count)]
    for order in itertools.permutations(range(3)):
        weights = [math.exp(rewards[i]) for i in order]
        expected = math.prod(w / sum(weights[i:]) for i, w in enumerate(weights))
        assert drawn.count(order) / count == pytest.approx(expected, abs=0.012)


def test_label_noise_flips_that_share() -> None:
    noisy, draw = Preferences(temperature=0.01, label_noise=0.3), random.Random(2)
    assert noisy.probability(5.0) == pytest.approx(0.7)
    flipped = sum(noisy.rank([5.0, 0.0], draw) == [1, 0] for _ in range(20_000)) / 20_000
    assert flipped == pytest.approx(0.3, abs=0.013)
    assert Preferences(label_noise=0.5).probability(100.0) == pytest.approx(0.5)


def test_bayes_accuracy() -> None:
    p = Preferences()
    assert p.bayes_accuracy([0.0]) == 0.5
    assert p.bayes_accuracy([math.log(3), -math.log(3), 0.0]) == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    assert p.bayes_accuracy([1000.0, -1000.0]) == pytest.approx(1.0)  # no overflow


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": 0.0}, "preferences.temperature must be positive and finite, got 0.0"),
        ({"temperature": -1.0}, "preferences.temperature"),
        ({"temperature": math.inf}, "preferences.temperature"),
        ({"label_noise": 0.6}, "preferences.label_noise"),
        ({"responses": 0}, "preferences.responses"),
        ({"size": 0}, "preferences.size"),
        ({"held_out_size": 0}, "preferences.held_out_size"),
        ({"missing": 2.0}, "preferences.missing"),
        ({"users": {}}, "preferences.users is empty"),
    ],
)
def test_degenerate_settings_are_refused(settings: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Preferences(**settings)


def test_ratings_have_the_range_of_their_dataset() -> None:
    world, draw = World(), random.Random(3)
    for _ in range(300):
        name = draw.choice(world.names)
        text = world.answer(name, draw.random() < 0.3, draw)
        reading = read(world, name, text)
        scores = Gold(draw.uniform(-6, 6), reading.words, draw.uniform(-3, 3))
        steer, feedback = (rating(shape, scores, reading) for shape in ("helpsteer", "ultrafeedback"))
        assert len(steer) == len(RATED["helpsteer"])
        assert len(feedback) == len(RATED["ultrafeedback"])
        assert all(0 <= s <= 4 and s == int(s) for s in steer)
        assert all(1 <= s <= 5 and s == int(s) for s in feedback)
        assert rating("gold", scores, reading) == tuple(scores)
