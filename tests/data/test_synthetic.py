"""The synthetic data: every view, reproducible, splits apart, and the same data through files of each format."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from align.cli.main import main
from align.data.fitting import VIEWS
from align.data.helpsteer import HelpSteer
from align.data.hh_rlhf import HHRLHF
from align.data.preference_file import PreferenceFile
from align.data.source import Report, Source
from align.data.synthetic import Corpus, Synthetic, SyntheticDataModule
from align.data.synthetic_files import write_files
from align.data.ultrafeedback import ASPECTS, UltraFeedback
from align.errors import ConfigError
from align.records import Example, ViewName
from align.world.gold_rewards import USERS, Gold, User, gold
from align.world.preferences import RATED, Preferences
from align.world.universe import World

WORLD = World()


def read(source: Source, split: str = "train") -> list[Example]:
    return source.read(split, Report())


def ordered(example: Example) -> list[str]:
    return [example.responses[i] for group in example.ranking for i in group]


def test_examples_depend_on_the_seed_and_their_place_only() -> None:
    few, many = (read(Synthetic(Preferences(size=n))) for n in (20, 50))
    assert few == many[:20]
    assert few != read(Synthetic(Preferences(size=20, seed=1)))
    fingerprints = {Synthetic(Preferences(seed=s), World(seed=w)).fingerprint() for s in (0, 1) for w in (0, 1)}
    assert len(fingerprints) == 4
    assert Synthetic().fingerprint() == Synthetic().fingerprint()


def test_scores_are_the_gold_rewards() -> None:
    for example in read(Synthetic(Preferences(size=100, responses=4))):
        assert len(set(example.responses)) == 4
        assert example.attributes == RATED["gold"]
        for response, scores in zip(example.responses, example.scores, strict=True):
            assert scores == tuple(gold(WORLD, example.messages, response))


def test_cold_labels_follow_the_gold_order() -> None:
    for example in read(Synthetic(Preferences(size=100, responses=5, temperature=1e-6))):
        rewards = [User().reward(Gold(*example.scores[i])) for (i,) in example.ranking]
        assert rewards == pytest.approx(sorted(rewards, reverse=True))


def test_users_disagree() -> None:
    examples = read(Synthetic(Preferences(size=300, responses=4, temperature=1e-6, users=USERS)))
    assert {e.user for e in examples} == set(USERS)
    for example in examples:
        rewards = [USERS[example.user].reward(Gold(*example.scores[i])) for (i,) in example.ranking]
        assert rewards == pytest.approx(sorted(rewards, reverse=True))


@pytest.mark.parametrize("shape", RATED)
def test_missing_halves(shape: str) -> None:
    settings = Preferences(size=400, ratings=shape, missing=0.5)  # type: ignore[arg-type]
    examples, half = read(Synthetic(settings)), len(RATED[shape]) // 2  # type: ignore[index]
    patterns = [tuple(map(math.isnan, e.scores[0])) for e in examples]
    width = len(RATED[shape])  # type: ignore[index]
    whole, front, back = (
        (False,) * width,
        (True,) * half + (False,) * (width - half),
        (False,) * half + (True,) * (width - half),
    )
    assert set(patterns) == {whole, front, back}
    assert patterns.count(whole) / 400 == pytest.approx(0.5, abs=0.1)
    assert patterns.count(front) / 400 == pytest.approx(0.25, abs=0.09)


@pytest.mark.parametrize("view", sorted(VIEWS.keys() - {"lists_by_reward"}))  # whose rewards may all be equal
def test_every_view_keeps_every_example(view: ViewName) -> None:
    report = Report()
    examples = Synthetic(Preferences(size=50, responses=3)).read("train", report)
    groups = VIEWS[view].apply(examples, report)
    assert report.read == 50
    assert not report.dropped
    per_example = {"regression": 3, "win_rates": 3, "unpaired": 2, "hindsight": 4}.get(view, 1)
    assert len(groups) == 50 * per_example


def test_splits_are_those_of_the_world() -> None:
    train, val, test = (read(Synthetic(Preferences(size=400, held_out_size=60)), s) for s in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (400, 60, 60)
    assert not {e.messages for e in train} & {e.messages for e in val}
    said = " ".join(m.content for e in test for m in e.messages)
    assert not any(name in said for name in WORLD.train_names)


def test_files_hold_the_same_data(tmp_path: Path) -> None:
    settings = Preferences(size=60, held_out_size=20, missing=0.4)
    counts = write_files(tmp_path, settings, WORLD)
    pairs = read(Synthetic(settings))
    assert counts["hh-rlhf/train.jsonl"] == counts["pairs/train.jsonl"] == 60
    for source in (HHRLHF(str(tmp_path / "hh-rlhf")), PreferenceFile(str(tmp_path / "pairs"))):
        for split in ("train", "val", "test"):
            found, drawn = read(source, split), read(Synthetic(settings), split)
            assert [(e.messages, ordered(e)) for e in found] == [(e.messages, ordered(e)) for e in drawn]
    lists = read(Synthetic(Preferences(size=60, held_out_size=20, missing=0.4, responses=4)))
    found = read(PreferenceFile(str(tmp_path / "lists")))
    assert [(e.messages, ordered(e)) for e in found] == [(e.messages, ordered(e)) for e in lists]
    prompts = read(PreferenceFile(str(tmp_path / "prompts")))
    assert [e.messages for e in prompts] == [e.messages for e in pairs]


def test_rated_files_hold_the_ratings(tmp_path: Path) -> None:
    settings = Preferences(size=80, held_out_size=5, missing=0.4)
    write_files(tmp_path, settings, WORLD)
    options = {"size": 80, "held_out_size": 5, "missing": 0.4}
    drawn = [
        e for e in read(Synthetic(Preferences(ratings="ultrafeedback", responses=4, **options))) if len(e.messages) == 1
    ]  # type: ignore[arg-type]
    found = read(UltraFeedback(str(tmp_path / "ultrafeedback")))
    assert len(found) == len(drawn) > 20
    columns = [1 + ASPECTS.index(name) for name in RATED["ultrafeedback"]]
    for a, b in zip(found, drawn, strict=True):
        assert a.responses == b.responses
        found_scores = [row[c] for row in a.scores for c in columns]
        assert found_scores == pytest.approx([s for row in b.scores for s in row], nan_ok=True)
    rows = read(HelpSteer(str(tmp_path / "helpsteer")))
    steer = [e for e in read(Synthetic(Preferences(ratings="helpsteer", **options))) if len(e.messages) == 1]  # type: ignore[arg-type]
    known = {(e.messages, r): s for e in rows for r, s in zip(e.responses, e.scores, strict=True)}
    for example in steer:
        for response, scores in zip(example.responses, example.scores, strict=True):
            assert known[example.messages, response] == pytest.approx(scores, nan_ok=True)


def test_bad_settings_are_one_line() -> None:
    with pytest.raises(ConfigError, match="draws gave 19 different responses to a prompt, expected 500"):
        read(Synthetic(Preferences(size=1, responses=500), World(facts=1)))
    with pytest.raises(ConfigError, match=r"world\.held_out_entities is 0"):
        Synthetic(world=World(held_out_entities=0))


def test_the_corpus_is_read_whole() -> None:
    report = Report()
    rows = Corpus(500).read("train", report)
    assert (len(rows), report.read, sum(report.dropped.values())) == (500, 500, 0)
    assert rows == Corpus(500).read("train", Report())


def test_the_command_writes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--preferences.size", "10", "--preferences.held_out_size", "4")
    assert main(["data", "world", "--out", "data", *few]) == 0
    assert "hh-rlhf/train.jsonl: 10 rows" in capsys.readouterr().out
    assert main(["data", "world", "--out", "data", *few]) == 2
    assert "not empty" in capsys.readouterr().err
    for flag, value, words in (
        ("--world.entities", "0", r"world.entities must lie in 1..64, got 0"),
        ("--preferences.temperature", "0", r"preferences.temperature must be positive"),
        ("--world.facts", "9", r"world.facts must lie in 1..6, got 9"),
        ("--preferences.responses", "900", r"preferences.responses: 200 draws gave"),
    ):
        assert main(["data", "world", "--out", "other", flag, value]) == 2
        error = capsys.readouterr().err.strip()
        assert re.search(words, error), error
        assert "\n" not in error


def test_the_data_module_knows_its_world() -> None:
    assert SyntheticDataModule(world=World(seed=3)).world.seed == 3
