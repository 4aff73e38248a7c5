"""Lists with rewards: which order they stand in, and which are dropped."""

from __future__ import annotations

import math

import pytest

from align.data.scored_lists import ScoredLists
from align.errors import ConfigError
from align.records import Example
from tests.data.test_views import listed, reason

NAN = math.nan
BY_LABEL = ((0,), (1,), (2,))


def rows(example: Example, **options) -> list[tuple[str, float, int]]:
    (group,) = ScoredLists(**options).groups(example)
    assert group.attributes == ("reward",)
    return [(t, s[0], r) for t, s, r in zip(group.responses, group.scores, group.ranks, strict=True)]


def test_rewards_overwrite_labels_or_are_handed_out_by_position() -> None:
    """methods-preference 4.2: human order with r_w < r_l sorts the values and assigns them by position."""
    disagreeing = listed("a", "b", "c", ranking=BY_LABEL, scores=((0.5,), (2.0,), (-1.0,)))
    assert rows(disagreeing) == [("b", 2.0, 0), ("a", 0.5, 1), ("c", -1.0, 2)]
    assert rows(disagreeing, ranking_source="human") == [("a", 2.0, 0), ("b", 0.5, 1), ("c", -1.0, 2)]
    assert rows(disagreeing, max_responses=2) == [("b", 2.0, 0), ("a", 0.5, 1)]
    assert rows(disagreeing, max_responses=1) == [("b", 2.0, 0)]


def test_ties() -> None:
    tied = listed("a", "b", "c", ranking=BY_LABEL, scores=((1.0,), (1.0,), (3.0,)))
    assert rows(tied) == [("c", 3.0, 0), ("a", 1.0, 1), ("b", 1.0, 1)]
    labels_tied = listed("a", "b", "c", ranking=((1,), (0, 2)), scores=((1.0,), (2.0,), (4.0,)))
    assert rows(labels_tied, ranking_source="human") == [("b", 4.0, 0), ("a", 1.5, 1), ("c", 1.5, 1)]


def test_weighted_attributes() -> None:
    two = listed("a", "b", scores=((1.0, 10.0), (2.0, 40.0)), attributes=("help", "words"))
    assert [t for t, *_ in rows(two)] == ["b", "a"]
    assert rows(two, attributes={"help": 1.0, "words": -0.1}) == [("a", 0.0, 0), ("b", -2.0, 1)]


def test_lists_without_rewards_keep_their_labels() -> None:
    for example in (
        listed("a", "b", "c", ranking=BY_LABEL),
        listed("a", "b", "c", ranking=BY_LABEL, scores=((1.0,), (NAN,), (2.0,))),
    ):
        (group,) = ScoredLists().groups(example)
        assert (group.responses, group.scores, group.ranks) == (("a", "b", "c"), (), (0, 1, 2))


@pytest.mark.parametrize(
    ("example", "options", "expected"),
    [
        (listed("a", scores=((1.0,),)), {}, "fewer than two responses"),
        (listed("a", "b", scores=((1.0,), (1.0,))), {}, "tied responses"),
        (listed("a", "b", "c", scores=((3.0,), (3.0,), (1.0,))), {"max_responses": 2}, "tied responses"),
        (listed("a", "b", ranking=((0, 1),)), {}, "tied responses"),
        (listed("a", "b"), {}, "no ranking"),
        (listed("a", "b", scores=((1.0,), (NAN,))), {}, "a reward is missing and there is no ranking"),
        (listed("a", "b", scores=((1.0,), (2.0,))), {"ranking_source": "human"}, "no labelled ranking"),
        (listed("a", "a", scores=((1.0,), (2.0,))), {}, "identical responses"),
        (listed("a", "b", scores=((1.0,), (2.0,))), {"attributes": {"x": 1.0}}, "no attribute 'x' (there: score)"),
    ],
)
def test_reasons(example: Example, options: dict, expected: str) -> None:
    assert reason(ScoredLists(**options), example) == expected


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="max_responses must be at least 1"):
        ScoredLists(max_responses=0)
    with pytest.raises(ConfigError, match="attributes is empty"):
        ScoredLists(attributes={})
