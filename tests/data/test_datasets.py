"""UltraFeedback and HelpSteer in all their schemas, made up and real."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from align.data.helpsteer import ATTRIBUTES, HelpSteer
from align.data.source import Report
from align.data.ultrafeedback import ASPECTS, UltraFeedback
from align.data.views import Pairs, RankedLists, RegressionRows
from align.errors import ConfigError, DataError


def write(tmp_path: Path, *rows: dict) -> str:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def completion(text: str, *ratings: str, **more) -> dict:
    return {
        "model": "m",
        "response": text,
        "annotations": {a: {"Rating": r} for a, r in zip(ASPECTS, ratings, strict=False)},
        **more,
    }


class TestUltraFeedbackRaw:
    def test_ranked_by_the_mean_of_known_aspects_with_explicit_ties(self, tmp_path: Path) -> None:
        row = {
            "instruction": "Hi",
            "completions": [
                completion("a", "3", "N/A", "5", "4"),  # 4
                completion("b", "5", "5", "5", "5", overall_score=1),  # 5, whatever the overall score says
                completion("c", "4", "4", "4", "4"),  # 4
                completion("d"),  # not rated
            ],
        }
        (example,) = UltraFeedback(write(tmp_path, row)).read("train", Report())
        assert example.responses == ("a", "b", "c")
        assert example.ranking == ((1,), (0, 2))
        assert example.attributes == ("overall_score", *ASPECTS)
        assert math.isnan(example.scores[0][0])
        assert math.isnan(example.scores[0][2])
        (by_overall,) = UltraFeedback(write(tmp_path, row), ranking_score="overall_score").read("train", Report())
        assert by_overall.ranking == ()  # one overall score only: no ranking

    def test_aspects_may_be_wrapped_in_lists(self, tmp_path: Path) -> None:
        wrapped = completion("a")
        wrapped["annotations"] = {a: [{"Rating": "2"}] for a in ASPECTS}
        row = {"instruction": "Hi", "completions": [wrapped, completion("b", "4", "4", "4", "4")]}
        (example,) = UltraFeedback(write(tmp_path, row)).read("train", Report())
        assert example.ranking == ((1,), (0,))

    def test_one_completion_serves_regression_only(self, tmp_path: Path) -> None:
        row = {"instruction": "Hi", "completions": [completion("a", "4", "4", "4", "4")]}
        examples = UltraFeedback(write(tmp_path, row)).read("train", Report())
        report = Report()
        assert Pairs().apply(examples, report) == []
        assert report.dropped == Counter({"fewer than two responses": 1})
        assert len(RegressionRows().apply(examples, Report())) == 1

    def test_equal_scores_make_no_pair(self, tmp_path: Path) -> None:
        row = {"instruction": "Hi", "completions": [completion(t, "4", "4", "4", "4") for t in "abcd"]}
        report = Report()
        Pairs().apply(UltraFeedback(write(tmp_path, row)).read("train", Report()), report)
        assert report.dropped == Counter({"tied responses": 1})

    @pytest.mark.parametrize("rating", ["11", "6", "0", "high", "inf"])
    def test_ratings_out_of_range_are_refused(self, tmp_path: Path, rating: str) -> None:
        row = {"instruction": "Hi", "completions": [completion("a", rating), completion("b", "1")]}
        with pytest.raises(DataError, match=rf"rating of 'instruction_following' is '{rating}'"):
            UltraFeedback(write(tmp_path, row)).read("train", Report())

    def test_the_real_row(self, shared: Path) -> None:
        (example,) = UltraFeedback(str(shared / "ultrafeedback-raw-example" / "row.json")).read("train", Report())
        assert len(example.responses) == 4
        assert example.scores[0][1:] == (2.0, 3.0, 3.0, 3.0)


def test_ultrafeedback_binarized(shared: Path) -> None:
    report = Report()
    examples = UltraFeedback(str(shared / "ultrafeedback-binarized" / "train.jsonl.gz")).read("train", report)
    pairs = Pairs().apply(examples, report)
    assert len(examples) == 1000
    assert sum(report.dropped.values()) + len(pairs) == 1000
    tied = sum(e.scores[0] == e.scores[1] for e in examples)
    assert report.dropped["tied responses"] <= tied <= 136


class TestHelpSteer:
    def rated(self, prompt: str, response: str, *values: int | None) -> dict:
        return {"prompt": prompt, "response": response, **dict(zip(ATTRIBUTES, values, strict=True))}

    def test_rows_are_grouped_by_prompt_and_ranked(self, tmp_path: Path) -> None:
        rows = [
            self.rated("p", "a", 2, 4, 4, 1, 1),
            self.rated("q", "x", 1, 1, 1, 1, 1),
            self.rated("p", "b", 3, 0, 4, 1, 2),
            self.rated("p", "c", 2, 1, 1, None, 1),
        ]
        report = Report()
        first, second = HelpSteer(write(tmp_path, *rows)).read("train", report)
        assert first.responses == ("a", "b", "c")
        assert first.ranking == ((1,), (0, 2))
        assert math.isnan(first.scores[2][3])
        assert second.responses == ("x",)
        assert report.read == 2  # prompts
        (by_correctness, _) = HelpSteer(write(tmp_path, *rows), rank_by=["correctness"]).read("train", Report())
        assert by_correctness.ranking == ((0,), (2,), (1,))
        assert len(RegressionRows().apply([first, second], Report())) == 4

    @pytest.mark.parametrize(("strength", "ranking"), [(-2, ((0,), (1,))), (3, ((1,), (0,))), (0, ((0, 1),))])
    def test_preference_rows_of_versions_two_and_three(self, tmp_path: Path, strength: int, ranking: tuple) -> None:
        third = {
            "domain": "general",
            "context": [{"role": "user", "content": "Hi"}],
            "response1": "a",
            "response2": "b",
            "overall_preference": strength,
        }
        second = {"prompt": "Hi", "response_1": "a", "response_2": "b", "preference_strength": strength}
        for row in (third, second):
            (example,) = HelpSteer(write(tmp_path, row)).read("train", Report())
            assert (example.messages[0].content, example.responses, example.ranking) == ("Hi", ("a", "b"), ranking)

    def test_faults_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="'helpfulness' is 7, expected 0 to 4"):
            HelpSteer(write(tmp_path, self.rated("p", "a", 7, 1, 1, 1, 1))).read("train", Report())
        row = {"prompt": "Hi", "response_1": "a", "response_2": "b", "preference_strength": 9}
        with pytest.raises(DataError, match="'preference_strength' is 9"):
            HelpSteer(write(tmp_path, row)).read("train", Report())
        with pytest.raises(ConfigError, match="rank_by must be some of"):
            HelpSteer("x", rank_by=["beauty"])

    def test_the_real_rows(self, shared: Path) -> None:
        examples = HelpSteer(str(shared / "helpsteer2-sample" / "rows.jsonl")).read("train", Report())
        assert [len(e.responses) for e in examples] == [2, 2, 2, 2]
        assert len(RankedLists().apply(examples, Report())) >= 3
