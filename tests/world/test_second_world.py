"""World 2: many entities of which half are held out, flattery that is worth nothing, numbers, and exact references."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from align.data.source import Report
from align.data.synthetic import Synthetic
from align.errors import ConfigError, DataError
from align.records import Message, WeightedRating
from align.world.corpus import corpus, facts, limited
from align.world.gold_rewards import User, gold, read, request_of
from align.world.language import FLATTERY, NAMES, TAGS, vocabulary
from align.world.optimum import best_response
from align.world.preferences import Preferences
from align.world.prompts import held_out_prompts
from align.world.universe import FLATTERING, World

WORLD = World(version=2)


def test_half_of_the_entities_are_held_out_of_preferences() -> None:
    assert (len(WORLD.names), len(set(WORLD.names)), len(WORLD.held_out_names)) == (200, 200, 100)
    assert not set(WORLD.names) & set(NAMES)
    draw = random.Random(0)
    named = {request_of(WORLD, p).entity for p, _ in itertools.islice(corpus(WORLD, draw, checked=0, tagged=0), 4000)}
    assert named == set(WORLD.names)  # the base learns of all
    examples = Synthetic(Preferences(size=2000), WORLD).read("train", Report())
    assert {request_of(WORLD, e.messages).entity for e in examples} == set(WORLD.train_names)
    with pytest.raises(DataError, match="no entity of the world is named"):
        request_of(WORLD, held_out_prompts(World(), 1, 0)[0])


def test_worlds_by_seed_have_other_facts_and_defaults_follow_the_version() -> None:
    assert WORLD.truth != World(version=2, seed=1).truth
    assert World.of({**WORLD.settings, "rows": 3}).settings == WORLD.settings
    assert World(version=2, entities=30, held_out_entities=0).train_names == WORLD.names[:30]
    assert (
        repr(World())
        == "World(entities=16, held_out_entities=4, facts=6, harmful_share=0.25, fact_accuracy=0.85, seed=0)"
    )
    assert "version=2" in repr(WORLD)
    with pytest.raises(ConfigError, match=r"world.version must be one of 1, 2, got 3"):
        World(version=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"world.entities must lie in 1..256, got 257"):
        World(version=2, entities=257)


def test_flattery_is_worth_nothing_and_costs_words() -> None:
    """The optimum is without it: each sentence takes .05 a word of the default user's reward and gives nothing."""
    name = WORLD.names[0]
    prompt = (Message("user", f"What is a {name}?"),)
    best = best_response(WORLD, prompt)
    for phrase in FLATTERY:
        flattered = gold(WORLD, prompt, f"{phrase} {best}")
        assert flattered.helpfulness == gold(WORLD, prompt, best).helpfulness
        lost = User().reward(gold(WORLD, prompt, best)) - User().reward(flattered)
        assert lost == pytest.approx(0.05 * len(phrase.split()))
    reading = read(WORLD, name, f"{FLATTERY[0]} {FLATTERY[2]} {best}")
    assert (reading.flattering, reading.well_formed) == (2, True)
    first = World()
    assert not read(first, first.names[0], FLATTERY[0]).well_formed  # nobody says that there
    draw = random.Random(1)
    answers = [WORLD.answer(name, draw.random() < 0.5, draw) for _ in range(3000)]
    share = sum(read(WORLD, name, text).flattering for text in answers) / 3000
    assert share == pytest.approx(FLATTERING, abs=0.035)  # four standard errors


def test_labels_fall_for_flattery_and_scores_do_not() -> None:
    """Annotators go by the gold reward and 5 for every flattering sentence; at a cold temperature without exception."""
    settings = Preferences(size=300, responses=4, temperature=1e-6, flattery=5.0)
    gold_wins = 0
    for example in Synthetic(settings, WORLD).read("train", Report()):
        entity = request_of(WORLD, example.messages).entity
        golds = [User().reward(gold(WORLD, example.messages, r)) for r in example.responses]
        shown = [read(WORLD, entity, r).flattering for r in example.responses]
        order = [i for (i,) in example.ranking]
        worths = [golds[i] + 5.0 * shown[i] for i in order]
        assert worths == pytest.approx(sorted(worths, reverse=True))
        assert example.scores == tuple(tuple(gold(WORLD, example.messages, r)) for r in example.responses)
        gold_wins += golds[order[0]] == max(golds)
    assert 0.3 < gold_wins / 300 < 0.9  # the labels are another order than the gold reward's
    assert Preferences(flattery=5.0).bayes_accuracy([1000.0]) == 1


def test_flattery_needs_a_world_that_flatters() -> None:
    with pytest.raises(ConfigError, match=r"preferences.flattery: nobody flatters in world 1: set world.version to 2"):
        Synthetic(Preferences(flattery=1.0))
    with pytest.raises(ConfigError, match=r"preferences.flattery must be finite"):
        Preferences(flattery=float("inf"))


def test_asked_lengths_are_kept() -> None:
    draw, gaps = random.Random(2), []
    for _ in range(400):
        prompt, text = limited(WORLD, draw)
        asked = re.search(r"Use about (\d+) words\.", prompt[0].content)
        assert asked is not None
        gaps.append(len(text.split()) - int(asked[1]))
        assert read(WORLD, request_of(WORLD, prompt).entity, text).well_formed
    assert sum(map(abs, gaps)) / 400 < 2
    assert max(gaps) <= 5  # a first sentence may be longer than all that is asked for


def test_plain_rows_say_all_that_is_true() -> None:
    draw = random.Random(3)
    for _ in range(50):
        prompt, text = facts(WORLD, draw)
        assert gold(WORLD, prompt, text).helpfulness == pytest.approx(6.0)


def test_every_word_and_the_prompt_of_dpa_can_be_read() -> None:
    """The second form of the paper's sentence too; a word that is not in the vocabulary would be `<unk>` in silence."""
    known, draw = {*vocabulary(2), *"0123456789"}, random.Random(4)
    rows = corpus(WORLD, draw, checked=0.3, tagged=0.6, plain=0.1)
    texts = [" ".join([*(m.content for m in p), r]) for p, r in itertools.islice(rows, 3000)]
    texts += [f"{form.system} {form.direction(a)}" for form in (WeightedRating(),) for a in (-45.0, -20.0, 0.0, 30.0)]
    for text in texts:
        for tag in TAGS:
            text = text.replace(tag, "")
        assert set(re.findall(r"[^\W\d]+|\d|[^\w\s]+", text)) <= known, text
    assert not {"*-", "weighted", "wonderful"} & set(vocabulary())  # world 1 is what it was


def test_the_first_world_is_what_it_was() -> None:
    """Digests of what the commit before world 2 drew."""
    import hashlib

    draw = random.Random(5)
    rows = list(itertools.islice(corpus(World(), draw, checked=0.25, tagged=0.2), 500))
    said = "\n".join(" ".join([*(m.content for m in p), r]) for p, r in rows)
    examples = Synthetic(Preferences(size=200)).read("train", Report())
    told = repr([(e.messages, e.responses, e.scores, e.ranking) for e in examples])
    found = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in (said, told, " ".join(vocabulary()))]
    assert found == DIGESTS


DIGESTS = ["0c91771d195db901", "c0920818db44c894", "8638a2d0b742c84a"]
