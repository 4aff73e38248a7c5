"""Directions of three rewards and more: uniform on the cap, written and read, chosen by v . r, measured in k dimensions."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest

from align.data.source import Report
from align.errors import ConfigError
from align.evaluation.fronts import Front, Point, points_of, read_front, write_front
from align.evaluation.hypervolume import hypervolume
from align.models.asked import asking_of
from align.models.condition_file import Conditions, read_condition_file, write_condition_file
from align.records import Example, Message, TwoDigits, WeightedRating
from align.records.asking import Ask
from align.records.cap import Cap
from align.records.conditions import conditioning_of
from align.records.reward_directions import parse_direction
from align.rounds.conditioning_schedule import rating_targets
from align.rounds.directional_selection import DirectionalRejectionSampling, direction_metrics
from align.rounds.scored_samples import PromptSamples, ScoredSample

NAMES = ("helpfulness", "harmlessness", "verbosity")
CAP = Cap((2.0, 2.0, -1.0), 40.0)
FORM = WeightedRating(attributes=NAMES, cap=CAP)


@pytest.mark.parametrize(("size", "degrees"), [(3, 40.0), (3, 90.0), (5, 70.0), (10, 30.0)])
def test_directions_are_uniform_on_the_cap(size: int, degrees: float) -> None:
    """The angle to the axis has density sin^(k-2); across the axis no side is preferred."""
    axis = np.arange(1, size + 1) * (-1.0) ** np.arange(size)
    cap = Cap(tuple(axis), degrees)
    found = np.array(cap.draw(random.Random(0), 3000))
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    angles = np.arccos(found @ np.array(cap.middle))
    end = math.radians(degrees)
    whole = quad(lambda t: math.sin(t) ** (size - 2), 0, end)[0]
    share = np.vectorize(lambda a: quad(lambda t: math.sin(t) ** (size - 2), 0, a)[0] / whole)
    assert angles.max() <= end + 1e-9
    assert kstest(angles, share).pvalue > 0.01
    across = found - np.outer(found @ np.array(cap.middle), cap.middle)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    assert np.abs(across.mean(0)).max() < 0.06


def test_even_directions_spread_and_stay() -> None:
    found = CAP.even(8)
    assert found == CAP.even(8)
    assert found[0] == CAP.middle
    assert all(map(CAP.holds, found))
    closest = max(float(np.dot(a, b)) for a, b in itertools.combinations(found, 2))
    assert math.degrees(math.acos(closest)) > 20
    assert not CAP.holds((0.0, 0.0, 1.0))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for form in (FORM, WeightedRating(attributes=NAMES, cap=CAP, decimals=True)):
        for way in CAP.draw(random.Random(1), 100):
            read = form.read_direction(form.direction(way))
            assert isinstance(read, tuple)
            assert np.dot(read, way) > 0.9998
        assert conditioning_of(form.plain()) == form
    way = parse_direction("helpfulness=2,verbosity=-1,harmlessness=2", NAMES)
    assert way == pytest.approx((2 / 3, 2 / 3, -1 / 3))
    assert FORM.direction(way).endswith("helpfulness*67 + harmlessness*67 + verbosity*-33")
    asked = Conditions(FORM, "ratings", [(1.0, 2.0, 3.0)])
    write_condition_file(asked, tmp_path)
    assert read_condition_file(str(tmp_path)) == asked


def test_a_folder_of_three_rewards_is_asked_for_a_direction_of_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the middle of its cap, or for weights of all; an angle lies in a plane and is refused."""
    write_condition_file(Conditions(FORM, "direction", []), tmp_path)
    for ask, way in ((Ask(), CAP.middle), (Ask(direction="2,2,-1"), (2 / 3, 2 / 3, -1 / 3))):
        (part,) = asking_of(str(tmp_path), ask).parts
        assert FORM.direction(way) in part.text
    assert "warning" not in capsys.readouterr().err
    asking_of(str(tmp_path), Ask(direction="-1,0,0"))
    assert "direction lies outside the cap" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="3 rewards: give a direction, a weight of each"):
        asking_of(str(tmp_path), Ask(angle=10.0))


def test_selection_takes_the_greatest_scalar_product() -> None:
    scores = np.random.default_rng(0).normal(size=(20, 3))
    rows = tuple(ScoredSample(i, f"t{i}", "eos", tuple(s), 0.0) for i, s in enumerate(scores.tolist()))
    drawn = PromptSamples(Example("p", (Message("user", "?"),)), rows, NAMES, 2, conditioning=FORM, angles=(None,))
    records = DirectionalRejectionSampling(directions=30).build([drawn], Report())
    for record in records:
        values = dict(zip(record.attributes, record.scores[0], strict=True))
        way = np.array([values[f"v {name}"] for name in NAMES])
        assert np.linalg.norm(way) == pytest.approx(1)
        assert record.responses == (f"t{int(np.argmax(scores @ way))}",)
        assert values["reward"] == pytest.approx((scores @ way).max())
    metrics = direction_metrics(records)
    assert metrics["gain"] > 0
    assert {"v helpfulness", "v verbosity"} < metrics.keys()


def test_targets_of_three_go_together() -> None:
    """The median of the tenth with the highest v . r in each direction; their highest is what was seen."""
    points = np.random.default_rng(2).uniform(0, 100, size=(200, 3))
    found = rating_targets(points.tolist(), 4, cap=CAP)
    for way, target in zip(CAP.even(4), found, strict=True):
        worth = points @ np.array(way)
        assert target == pytest.approx(np.median(points[np.argsort(worth)[-20:]], axis=0))
    [best, *_] = rating_targets(points.tolist(), 1, top=100, cap=CAP)
    assert list(best) == points[np.argmax(points @ np.array(CAP.middle))].tolist()


def test_the_highest_helpfulness_seen_with_each_verbosity() -> None:
    """Bins (1, 2), (3, 4): medians 1.5 and 3.5, highest first rewards 7 and 9."""
    assert rating_targets([(7, 1), (5, 2), (9, 3), (2, 4)], 2, top=100) == [(7.0, 1.5), (9.0, 3.5)]


def test_hypervolumes_of_three_count_cells() -> None:
    points = np.random.default_rng(3).integers(0, 9, size=(10, 3)).astype(float)
    cells = [c for c in itertools.product(range(9), repeat=3) if any((np.array(c) < p).all() for p in points)]
    assert hypervolume(points, (0, 0, 0)) == len(cells)


def test_fronts_of_three_are_kept(tmp_path: Path) -> None:
    points = points_of(Conditions(FORM, "direction", []), 3)
    assert points[0] == Point("0.67, 0.67, -0.33", FORM.direction(CAP.middle), CAP.middle)
    front = Front("a", NAMES, tuple(points), np.random.default_rng(0).normal(size=(3, 6, 3)))
    write_front(front, tmp_path / "a.json")
    assert read_front(tmp_path / "a.json").points == front.points
    first = front.worth(Conditions(FORM, "direction", []))[0]
    assert first is not None
    assert first.value == pytest.approx((front.rewards[0] @ np.array(CAP.middle)).mean())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: WeightedRating(attributes=NAMES), "3 rewards have directions on a cap, whose axis has 3 weights"),
        (lambda: WeightedRating(cap=CAP), "2 rewards have an arc: leave it out"),
        (lambda: WeightedRating(attributes=(*NAMES, "wit"), cap=CAP), "whose axis has 4 weights"),
        (lambda: TwoDigits(attributes=NAMES, cap=CAP), "TwoDigits writes a place on an arc"),
        (lambda: Cap((1.0, 0.0, 0.0), 91.0), r"degrees must lie in \(0, 90\]"),
        (lambda: Cap((0.0, 0.0, 0.0)), "not all 0"),
        (lambda: Cap((1.0, 0.0)), "three weights or more"),
        (lambda: parse_direction("1,x,2", NAMES), "expected 3 weights"),
    ],
)
def test_settings_that_make_no_sphere(make, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()
