"""The universe: reproducible, separate splits, every word in the vocabulary, degenerate settings refused."""

from __future__ import annotations

import random
import re

import pytest

from align.errors import ConfigError
from align.world.corpus import CHECKED_ACCURACY, checked_answer, corpus
from align.world.gold_rewards import request_of
from align.world.language import ATTRIBUTES, CHECKED, NAMES, TAGS, vocabulary
from align.world.prompts import draw_prompt, held_out_prompts
from align.world.universe import World

WORLD = World()


def test_facts_follow_from_the_seed() -> None:
    assert World().truth == World().truth != World(seed=1).truth
    assert len(set(NAMES)) == len(NAMES) == 64
    assert World(entities=20).truth[NAMES[3]] == WORLD.truth[NAMES[3]]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"entities": 0}, "world.entities must lie in 1..64, got 0"),
        ({"entities": 65}, "world.entities"),
        ({"facts": 7}, "world.facts must lie in 1..6, got 7"),
        ({"facts": 0}, "world.facts"),
        ({"held_out_entities": 16}, "world.held_out_entities must lie in 0..15"),
        ({"harmful_share": 1.5}, "world.harmful_share"),
        ({"fact_accuracy": -0.1}, "world.fact_accuracy"),
    ],
)
def test_degenerate_worlds_are_refused(settings: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        World(**settings)


def test_splits_share_no_prompt_and_test_no_entity() -> None:
    draw = random.Random(0)
    train = {draw_prompt(WORLD, "train", draw) for _ in range(3000)}
    val, test = (held_out_prompts(WORLD, 100, 60, split=split) for split in ("val", "test"))
    assert not train & set(val)
    named = {request_of(WORLD, p).entity for p in (*train, *val)}
    assert named == set(WORLD.train_names)
    assert {request_of(WORLD, p).entity for p in test} == set(WORLD.held_out_names)
    assert [request_of(WORLD, p).harmful for p in val] == [False] * 100 + [True] * 60
    assert len(set(val)) == 160
    assert any(len(p) == 3 for p in val)


def test_shares_are_as_asked() -> None:
    draw = random.Random(1)
    prompts = [World(harmful_share=0.4).prompt(draw) for _ in range(4000)]
    assert sum(request_of(WORLD, p).harmful for p in prompts) / 4000 == pytest.approx(
        0.4, abs=0.03
    )  # 4 standard errors
    with pytest.raises(ConfigError, match="different harmful prompts, expected 60"):
        held_out_prompts(World(harmful_share=0.0), 5, 60)


def test_the_vocabulary_covers_everything() -> None:
    known, draw = {*vocabulary(), *"0123456789"}, random.Random(2)
    rows = corpus(World(entities=64), draw, checked=0.3, tagged=0.5)
    for prompt, response in (next(rows) for _ in range(2000)):
        text = " ".join([*(m.content for m in prompt), response])
        for tag in TAGS:
            text = text.replace(tag, "")
        assert set(re.findall(r"[^\W\d]+|\d|[^\w\s]", text)) <= known
    assert len(known) == len(vocabulary()) + 10


def test_checks_say_the_truth() -> None:
    draw, right, stated = random.Random(3), 0, 0
    for _ in range(300):
        name = draw.choice(WORLD.names)
        sentences = checked_answer(WORLD, name, draw).split(". ")
        for said, verdict in zip(sentences[::2], sentences[1::2], strict=True):
            value_of = {a.name: a for a in ATTRIBUTES}
            true = any(said.endswith(f"{a.predicate} {WORLD.truth[name][k]}") for k, a in value_of.items())
            assert verdict.rstrip(".") == ("Right" if true else "Wrong")
            right, stated = right + true, stated + 1
    assert right / stated == pytest.approx(CHECKED_ACCURACY + (1 - CHECKED_ACCURACY) * 0.24, abs=0.06)


def test_checked_and_tagged_shares() -> None:
    rows = corpus(WORLD, random.Random(4), checked=0.25, tagged=0.5)
    drawn = [next(rows) for _ in range(4000)]
    assert sum(p[-1].content.endswith(CHECKED) for p, _ in drawn) / 4000 == pytest.approx(0.25, abs=0.03)
    assert sum(p[0].role == "system" for p, _ in drawn) / 4000 == pytest.approx(0.5, abs=0.035)
