"""Builders against numbers worked by hand, and the properties that make them what they are."""

from __future__ import annotations

import math
from statistics import fmean

import pytest

from align.data.source import Report
from align.errors import ConfigError
from align.records import Example, Message
from align.rounds.mixing import Replay
from align.rounds.pair_selections import BernoulliPair, BestWorst, RejectionSampledPairs, ThresholdPairs
from align.rounds.rerank import AppendAndRerank
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.rounds.selections import BestOfN, TopFraction


def drawn(rewards: list[float], name: str = "p", texts: list[str] | None = None, **options) -> PromptSamples:
    texts = texts or [f"t{i}" for i in range(len(rewards))]
    candidates = tuple(ScoredSample(i, t, "eos", (r,), r) for i, (t, r) in enumerate(zip(texts, rewards, strict=True)))
    return PromptSamples(Example(name, (Message("user", "?"),)), candidates, ("reward",), **options)


def pairs(selection, *prompts: PromptSamples) -> list[tuple[str, ...]]:
    return [e.responses for e in selection.build(prompts, Report())]


def test_best_of_n() -> None:
    """The index is the argmax, the first of equal ones; n = 1 is the sample itself."""
    [record] = BestOfN().build([drawn([1.0, 3.0, 3.0, 2.0], round_number=4)], Report())
    assert (record.responses, record.scores, record.origins) == (("t1",), ((3.0,),), ("policy@4",))
    assert record.id == "p@4"
    assert pairs(BestOfN(), drawn([0.5])) == [("t0",)]


def test_the_best_does_not_fall_with_more_samples() -> None:
    rewards = [math.sin(7 * i) for i in range(64)]
    best = [BestOfN().build([drawn(rewards[:n])], Report())[0].scores[0][0] for n in (1, 2, 4, 8, 16, 32, 64)]
    assert best == sorted(best)


def test_top_fraction_ranks_over_all_prompts() -> None:
    prompts = [drawn([9.0, 8.0, 1.0, 0.0], "a"), drawn([5.0, 7.0, 2.0, 3.0], "b"), drawn([0.1] * 4, "c")]
    report = Report()
    found = TopFraction(0.34).build(prompts, report)  # round(.34 * 12) = 4 of 9, 8, 7, 5
    assert [(e.id, e.responses[0]) for e in found] == [
        ("a@0#0", "t0"),
        ("a@0#1", "t1"),
        ("b@0#0", "t0"),
        ("b@0#1", "t1"),
    ]
    assert report.dropped == {"below the best fraction": 1}
    assert len(TopFraction(1.0).build(prompts, Report())) == 12
    with pytest.raises(ConfigError):
        TopFraction(0.0)


def test_best_and_worst() -> None:
    report = Report()
    same = drawn([1.0, 1.0, 1.0], "same")
    found = BestWorst(margin=0.5).build([drawn([1.0, 3.0, 0.0]), same, drawn([1.0, 1.4], "near")], report)
    assert [(e.responses, e.ranking) for e in found] == [(("t1", "t2"), ((0,), (1,)))]
    assert report.dropped == {"rewards too close": 2}


def test_a_constant_reward_gives_no_pair() -> None:
    for selection in (BestWorst(), ThresholdPairs(), RejectionSampledPairs()):
        report = Report()
        assert selection.build([drawn([2.0] * 6)], report) == []
        assert report.dropped == {"rewards too close": 1}


def test_threshold_pairs() -> None:
    """sigmoid(2) = 0.8808 > 0.85 > sigmoid(1) = 0.7311: of rewards 0, 1, 2 only (2, 0) is far enough."""
    assert pairs(ThresholdPairs(), drawn([0.0, 1.0, 2.0])) == [("t2", "t0")]
    assert len(pairs(ThresholdPairs(temperature=0.5), drawn([0.0, 1.0, 2.0]))) == 3  # sigmoid(1 / 0.5) = 0.8808
    assert len(pairs(ThresholdPairs(threshold=0.5), drawn([0.0, 1.0, 2.0, 2.0]))) == 5
    with pytest.raises(ConfigError):
        ThresholdPairs(threshold=0.4)


def test_bernoulli_labels_have_their_probability() -> None:
    """A gap of 1 wins with probability sigmoid(1) = 0.7311; 2000 draws have a standard error of 0.0099."""
    won = [pairs(BernoulliPair(), drawn([1.0, 0.0], f"p{i}")) == [("t0", "t1")] for i in range(2000)]
    assert fmean(won) == pytest.approx(0.7311, abs=0.03)
    cold = [pairs(BernoulliPair(0.01), drawn([1.0, 0.0], f"p{i}")) == [("t0", "t1")] for i in range(50)]
    assert all(cold)
    assert pairs(BernoulliPair(), drawn([1.0, 0.0], texts=["a", "a"])) == []
    assert pairs(BernoulliPair(), drawn([1.0, 0.0], "q")) == pairs(BernoulliPair(), drawn([1.0, 0.0], "q"))


def test_rejection_sampling_follows_the_tilted_distribution() -> None:
    """Accepting one sample of a large pool gives exp(r / beta), normalised: here 1 to e for gap 0.5 and beta 0.5."""
    taken = []
    for i in range(600):
        pool = drawn([0.0] * 40 + [0.5] * 40, f"p{i}")
        accepted = RejectionSampledPairs(beta=0.5, accepted=2)._accept(pool)
        taken += [c.reward for c in accepted]
    # the pool is passed in order, so of the first 40 (reward 0) each is accepted with probability 1/e
    assert set(taken) == {0.0}
    first = RejectionSampledPairs(beta=0.5, accepted=80)._accept(drawn([0.0] * 4000 + [0.5] * 4000, "x"))
    assert len(first) == 80
    every = RejectionSampledPairs(beta=0.5, accepted=8000)
    pool = drawn([0.0] * 2000 + [0.5] * 2000, "y")
    stream = pool.stream("accept")
    expected = sum(stream.random() < math.exp(-1) for _ in range(2000))
    passed = every._accept(pool)
    assert sum(c.reward == 0.0 for c in passed[: expected + 2000]) == expected
    assert expected / 2000 == pytest.approx(math.exp(-1), abs=0.04)


def test_rejection_sampled_pairs_are_ordered() -> None:
    found = RejectionSampledPairs(beta=10.0, accepted=6).build([drawn([3.0, 1.0, 2.0, 5.0, 4.0, 6.0])], Report())
    assert found
    assert all(e.scores[0] > e.scores[1] for e in found)
    assert sorted(t for e in found for t in e.responses) == [f"t{i}" for i in range(6)]


class TestAppendAndRerank:
    """Originals (1.9, 0.4) and a new sample of 2.6: the worked numbers of PRO's footnote 6."""

    def record(self, reward: float, placing: str, text: str = "new") -> Example | None:
        own = Example("p", (Message("user", "?"),), ("y1", "y2"), ("score",), ((1.9,), (0.4,)))
        prompt = PromptSamples(own, (ScoredSample(0, text, "eos", (reward,), reward),), ("reward",), round_number=2)
        found = AppendAndRerank(placing).build([prompt], Report())  # type: ignore[arg-type]
        return found[0] if found else None

    @pytest.mark.parametrize(
        ("placing", "order", "rewards"),
        [
            ("resort", ("y1", "new", "y2"), (2.6, 1.9, 0.4)),
            ("cap", ("y1", "new", "y2"), (1.9, 1.9, 0.4)),
            ("free", ("new", "y1", "y2"), (2.6, 1.9, 0.4)),
        ],
    )
    def test_a_sample_that_beats_the_best(self, placing: str, order: tuple, rewards: tuple) -> None:
        record = self.record(2.6, placing)
        assert record is not None
        assert (record.responses, tuple(s[0] for s in record.scores)) == (order, rewards)
        assert record.attributes == ("score",)
        assert record.origins == tuple("policy@2" if r == "new" else "data" for r in order)

    def test_drop_and_what_is_never_added(self) -> None:
        assert self.record(2.6, "drop") is None
        assert self.record(1.0, "resort", " ") is None
        assert self.record(1.0, "resort", "y1") is None

    @pytest.mark.parametrize("placing", ["resort", "cap", "drop", "free"])
    def test_a_sample_in_the_middle_goes_where_it_belongs(self, placing: str) -> None:
        record = self.record(1.0, placing)
        assert record is not None
        assert (record.responses, record.scores) == (("y1", "new", "y2"), ((1.9,), (1.0,), (0.4,)))


def test_replay_is_a_share_of_the_whole() -> None:
    """1000 own records and a share of 0.15 take round(1000 * .15 / .85) = 176 of the data."""
    own = [Example(f"o{i}", (Message("user", "?"),), ("r",)) for i in range(1000)]
    data = [Example(f"d{i}", (Message("user", "?"),), ("a", "b")) for i in range(400)]
    mixed = Replay(0.15).mix(own, data, seed=1, round_number=2)
    assert len(mixed) == 1176
    assert mixed[:1000] == own
    assert mixed[1000].origins == ("data", "data")
    assert Replay(0.15).mix(own, data[::-1], seed=1, round_number=2) == mixed
    assert Replay(0.15).mix(own, data, seed=1, round_number=3) != mixed
    assert len(Replay(0.5).mix(own, data, seed=1, round_number=2)) == 1400  # all there are
    assert Replay(0.0).mix(own, data, seed=1, round_number=2) == own
