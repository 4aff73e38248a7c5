"""DPA's rounds: selection against brute force and worked numbers, halves, conditions."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from align.data.source import Report
from align.errors import ConfigError, DataError
from align.records import Example, Message, TwoDigits
from align.records.reward_directions import unit
from align.rewards.min_max_scaled import MinMaxScaled
from align.rewards.scorers import GoldRewards
from align.rounds.conditioning_schedule import ConditioningSchedule, rating_targets
from align.rounds.directional_selection import DirectionalRejectionSampling, RatedRows
from align.rounds.round_file import write_round
from align.rounds.round_folder import RoundFolder
from align.rounds.round_prompts import targets_of
from align.rounds.round_store import StoredSample
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.rounds.settings import RoundSettings
from align.sampling.generation import Generation

FORM = TwoDigits(attributes=("r1", "r2"))
USER = (Message("user", "?"),)
WORKED = [(70, 60), (66, 45), (50, 20), (72, 70)]


def drawn(
    scores: Any, *, angles: tuple[float | None, ...] = (), groups: list[int] | None = None, **more: Any
) -> PromptSamples:
    groups = groups or [0] * len(scores)
    rows = [
        ScoredSample(i, f"t{i}", "eos", (0.0, *map(float, s)), 0.0, g)
        for i, (s, g) in enumerate(zip(scores, groups, strict=True))
    ]
    example = Example("p", USER, ("own",))
    return PromptSamples(example, tuple(rows), ("wit", "r1", "r2"), 2, conditioning=FORM, angles=angles, **more)


def chosen(record: Example) -> int:
    return int(record.responses[0][1:])


def column(record: Example, name: str) -> float:
    return record.scores[0][record.attributes.index(name)]


@pytest.mark.parametrize(
    ("angle", "index", "worth"), [(0, 3, 72), (-15, 1, 52.104), (-30, 1, 34.658), (-45, 2, 21.213)]
)
def test_worked_numbers(angle: float, index: int, worth: float) -> None:
    [record] = DirectionalRejectionSampling().build([drawn(WORKED, angles=(angle,))], Report())
    assert chosen(record) == index
    assert column(record, "reward") == pytest.approx(worth, abs=5e-4)
    assert column(record, "angle") == angle
    assert record.messages[0] == Message("system", FORM.direction(angle))
    assert record.origins == ("policy@2",)


def brute_force(scores: np.ndarray, angle: float) -> int:
    """The first index of the largest dot product, by numpy."""
    return int(np.argmax(scores @ np.array(unit(angle))))


@pytest.mark.parametrize("seed", range(20))
def test_selection_is_the_argmax_in_the_direction(seed: int) -> None:
    """Neither a vector added to all nor a move of one candidate across the direction changes it."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, size=(16, 2)).astype(float)
    angle = -45 * rng.random()
    across = np.array(unit(angle + 90))
    moved = scores + rng.normal(size=(16, 1)) * across * 1e-3 + rng.normal(size=2)
    for table in (scores, scores + rng.integers(-9, 9, size=2), moved):
        [record] = DirectionalRejectionSampling().build([drawn(table, angles=(angle,))], Report())
        assert chosen(record) == brute_force(scores, angle)


def test_pool_and_group() -> None:
    scores = np.random.default_rng(0).normal(size=(12, 2))
    groups = [0] * 4 + [1] * 4 + [2] * 4
    prompt = drawn(scores, angles=(-5.0, -20.0, -40.0), groups=groups)
    own = DirectionalRejectionSampling().build([prompt], Report())
    assert [column(r, "angle") for r in own] == [-5.0, -20.0, -40.0]
    assert [chosen(r) for r in own] == [
        4 * g + brute_force(scores[4 * g : 4 * g + 4], a) for g, a in enumerate((-5.0, -20.0, -40.0))
    ]
    pooled = DirectionalRejectionSampling(directions=50, among="pool").build([prompt], Report())
    assert all(chosen(r) == brute_force(scores, column(r, "angle")) for r in pooled)
    assert len({column(r, "angle") for r in pooled}) == 50
    assert DirectionalRejectionSampling(directions=50, among="pool").build([prompt], Report()) == pooled
    assert len({r.id for r in pooled}) == 50
    rated = DirectionalRejectionSampling(directions=3).build(
        [drawn(scores, angles=(None, None, None), groups=groups)], Report()
    )
    assert all(chosen(r) == brute_force(scores, column(r, "angle")) for r in rated)  # ratings: always a pool


def test_directions_without_a_usable_sample_are_counted() -> None:
    report = Report()
    found = DirectionalRejectionSampling().build([drawn(WORKED, angles=(0.0, -45.0), groups=[0] * 4)], report)
    assert [chosen(r) for r in found] == [3]
    assert report.dropped == {"direction without a usable sample": 1}


def test_ties_take_the_first() -> None:
    [record] = DirectionalRejectionSampling().build([drawn([(1, 0), (2, 0), (2, 0)], angles=(0.0,))], Report())
    assert chosen(record) == 1


def test_rated_rows() -> None:
    found = RatedRows().build([drawn([(70.4, 24.5), (10, 99.9)])], Report())
    assert [r.messages[0].content for r in found] == ["r1 70 r2 25", "r1 10 r2 99"]
    assert [r.responses for r in found] == [("t0",), ("t1",)]


def test_targets_go_together() -> None:
    """Bins of ten by the second reward; within a bin the first reward is 0..9, whose 90th percentile is 8.1."""
    draw = random.Random(0)
    points = [(i % 10, i // 10 * 10 + i % 10) for i in range(50)]
    draw.shuffle(points)
    assert rating_targets(points, 5) == [(pytest.approx(8.1), 10 * k + 4.5) for k in range(5)]
    assert rating_targets([*points, (float("nan"), 5)], 5) == rating_targets(points, 5)
    with pytest.raises(DataError, match="too few for 5 targets"):
        rating_targets(points[:4], 5)


def settings(**more: Any) -> RoundSettings:
    from align.rewards.scorers import Direction

    return RoundSettings(GoldRewards(), DirectionalRejectionSampling(), Generation(), Direction(), **more)


def test_targets_are_those_of_rows_that_were_trained_on(tmp_path: Path) -> None:
    """The empty response, which made no row, is the most helpful one: its 99 was asked for, and nothing had it."""
    rounds, scores = RoundFolder(tmp_path), [(70.0, 20.0, 0.0), (60.0, 30.0, 0.0), (99.0, 0.0, 0.0)]
    assert not rounds.begin(0, "weights", "settings")
    texts = zip(("one", "two", ""), scores, strict=True)
    samples = [StoredSample("p", n, "hash", [], text, "eos", scores=row) for n, (text, row) in enumerate(texts)]
    rounds.store.add(0, samples)
    rounds.store.add_scores(0, samples, "gold")
    assert targets_of(rounds, settings(conditions=ConditioningSchedule(targets=2)), TwoDigits()) == []
    names = GoldRewards().attributes
    records = [Example(f"p#{n}", USER, ("text",), names, (row,)) for n, row in enumerate(scores[:2])]
    rounds.store.seal(0, 2, write_round(rounds.path(0), records), {})
    made = targets_of(rounds, settings(conditions=ConditioningSchedule(targets=2)), TwoDigits(), top=100)
    assert made == [(70, 20), (60, 30)]


@pytest.mark.parametrize("size", [2, 9, 40])
def test_halves_cover_and_share_nothing(size: int) -> None:
    pool = [Example(f"e{i}", (Message("user", str(i)),)) for i in range(size)]
    given = settings(alternate_halves=True, conditions=ConditioningSchedule(), prompts=max(size // 5, 1))
    names = [{e.id for e in given.choose(pool, n)} for n in range(8)]
    shares = [{e.id for e in given.share(pool, n)} for n in range(8)]
    assert shares[0] | shares[1] == {e.id for e in pool}
    assert not shares[0] & shares[1]
    assert abs(len(shares[0]) - len(shares[1])) <= 1
    assert all(names[n] <= shares[n % 2] for n in range(8))
    assert names[0] == shares[0]  # the SteerLM round takes all of its half
    assert all(not a & b for a, b in itertools.pairwise(names))
    with pytest.raises(ConfigError, match="1 different prompts"):
        given.choose(pool[:1], 0)


def test_conditions_by_round() -> None:
    plan, targets = ConditioningSchedule(directions=4), [(80.0, 20.0), (90.0, 60.0)]
    asked = [plan.asked(n, "p", FORM, seed=0, targets=targets) for n in range(4)]
    assert [a.clause for a in asked[0]] == [""]
    assert [a.clause for a in asked[1]] == ["r1 80 r2 20", "r1 90 r2 60"]
    assert [a.angle for a in asked[1]] == [None, None]
    assert len({a.angle for a in asked[2] + asked[3]}) == 8
    assert plan.asked(2, "p", FORM, seed=0, targets=[]) == asked[2]
    assert plan.asked(2, "q", FORM, seed=0, targets=[]) != asked[2]
    assert ConditioningSchedule(rated_start=False).asked(0, "p", FORM, seed=0, targets=[])[0].angle is not None


def test_settings_that_have_no_effect() -> None:
    from align.callbacks.resampling import IterativeResampling

    with pytest.raises(ConfigError, match="missing_eos_penalty has no effect"):
        settings(conditions=ConditioningSchedule(), missing_eos_penalty=1.0)
    with pytest.raises(ConfigError, match="keep_models needs restart"):
        IterativeResampling(GoldRewards(), DirectionalRejectionSampling(), keep_models=True)
    with pytest.raises(ConfigError, match="DirectionalRejectionSampling needs conditions"):
        DirectionalRejectionSampling().build([replace(drawn(WORKED), conditioning=None)], Report())


def test_points() -> None:
    scorer = MinMaxScaled(GoldRewards(), {"verbosity": (0.0, 40.0), "helpfulness": (-6.0, 6.0)})
    scores = scorer.score([(Message("user", "What is a karon?"),)], ["The karon is."])
    assert scorer.attributes == ("verbosity", "helpfulness")
    assert scores.tolist() == [[7.5, 50.0]]
    assert scorer.identity != MinMaxScaled(GoldRewards(), {"verbosity": (0.0, 50.0)}).identity
    with pytest.raises(ConfigError, match="scales name 'wit'"):
        MinMaxScaled(GoldRewards(), {"wit": (0.0, 1.0)})
    with pytest.raises(ConfigError, match="ends must differ"):
        MinMaxScaled(GoldRewards(), {"verbosity": (1.0, 1.0)})
