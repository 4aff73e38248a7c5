"""Lists with rewards: which order they stand in, and which are dropped."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from align.data.helpsteer import HelpSteer
from align.data.preference_file import PreferenceFile
from align.data.scored_lists import ScoredLists
from align.data.source import Report
from align.errors import ConfigError, DataError
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


def test_bad_rows_are_counted_or_named(tmp_path: Path) -> None:
    """Reliability 5, items 21 to 25: one completion, equal scores, scores that are none, missing ones, ties."""
    rows = [
        {"completions": ["a"], "scores": [1]},
        {"completions": ["a", "b"], "scores": [1, 1]},
        {"completions": ["a", "b"], "scores": [1, None]},
        {"completions": ["a", "b"], "scores": [1, None], "ranks": [1, 0]},
        {"completions": ["a", "b", "c"], "scores": [1, 2, 2]},
        {"completions": ["a", "b", "c", "d", "e"], "scores": [1, 2, 3, 4, 5]},
        {"completions": ["a", "a", "", "b"], "scores": [3, 2, 9, 1]},
    ]
    path = tmp_path / "lists.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"Hi {n}", **row}) for n, row in enumerate(rows)))
    report = Report()
    kept = ScoredLists().apply(PreferenceFile(str(path)).read("train", report), report)
    assert [(g.responses, g.scores != ()) for g in kept] == [
        (("b", "a"), False),
        (("b", "c", "a"), True),
        (("e", "d", "c", "b", "a"), True),
        (("a", "b"), True),
    ]
    assert report.dropped == Counter(
        {"fewer than two responses": 1, "tied responses": 1, "a reward is missing and there is no ranking": 1}
    )
    for scores, line in {
        (1, "N/A"): "score 'N/A' is not a number",
        (1, math.inf): "score inf is not finite",
        (1, math.nan): "score nan is not finite",
        (1,): "2 completions but 1 scores",
    }.items():
        path.write_text(json.dumps({"prompt": "Hi", "completions": ["a", "b"], "scores": scores}))
        with pytest.raises(DataError, match=line):
            PreferenceFile(str(path)).read("train", Report())


def test_a_helpsteer_attribute_that_is_missing(tmp_path: Path) -> None:
    rated = {"prompt": "Hi", "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 1}
    rows = [{**rated, "response": "a", "verbosity": 1}, {**rated, "response": "b", "helpfulness": 1}]
    path = tmp_path / "rated.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (example,) = HelpSteer(str(path)).read("train", Report())
    weighted = ScoredLists(attributes={"helpfulness": 1.0, "verbosity": -0.1})
    (group,) = weighted.groups(example)
    assert (group.responses, group.scores) == (("a", "b"), ())  # by its labels, without rewards
    (scored,) = ScoredLists(attributes={"helpfulness": 1.0}).groups(example)
    assert scored.scores == ((3.0,), (1.0,))
