"""Preference files in the field's column conventions, and what is not one of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.errors import DataError
from align.records import Example, Message

USER, CHOSEN, REJECTED = (
    {"role": r, "content": c} for r, c in (("user", "Hi"), ("assistant", "Good."), ("assistant", "Bad."))
)


def read(tmp_path: Path, *rows: dict, report: Report | None = None, **options) -> list[Example]:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return PreferenceFile(str(path), **options).read("train", report or Report())


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."},
        {"prompt": [USER], "chosen": [CHOSEN], "rejected": [REJECTED]},
        {"prompt": "Hi", "chosen": [USER, CHOSEN], "rejected": [USER, REJECTED], "prompt_id": "x"},
        {"chosen": [USER, CHOSEN], "rejected": [USER, REJECTED]},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Good.", "rejected": "\n\nHuman: Hi\n\nAssistant: Bad."},
        {"prompt": "Hi", "completions": ["Good.", "Bad."], "scores": [2, 1]},
        {"prompt": "Hi", "responses": [{"text": "Good.", "reward": 0.9}, {"text": "Bad.", "reward": 0.1}]},
    ],
)
def test_pairs_in_every_convention(tmp_path: Path, row: dict) -> None:
    (example,) = read(tmp_path, row)
    assert example.messages == (Message("user", "Hi"),)
    assert example.responses == ("Good.", "Bad.")
    assert example.ranking == ((0,), (1,))


@pytest.mark.parametrize(
    ("row", "responses", "scores"),
    [
        ({"prompt": "Hi", "completion": "Good.", "label": True}, ("Good.",), ((1.0,),)),
        ({"prompt": "Hi", "completion": "Good.", "label": False}, ("Good.",), ((0.0,),)),
        ({"prompt": "Hi", "completion": "Good."}, ("Good.",), ()),
        ({"prompt": [USER], "completion": [CHOSEN]}, ("Good.",), ()),
        ({"messages": [USER, CHOSEN]}, ("Good.",), ()),
        ({"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Good."}]}, ("Good.",), ()),
        ({"prompt": "Hi"}, (), ()),
    ],
)
def test_single_responses_and_prompts(tmp_path: Path, row: dict, responses: tuple, scores: tuple) -> None:
    (example,) = read(tmp_path, row)
    assert (example.messages, example.responses, example.scores) == ((Message("user", "Hi"),), responses, scores)


def test_scores_margins_ties_and_models(tmp_path: Path) -> None:
    base = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}
    by_margin, by_score, tied, ranked = read(
        tmp_path,
        {**base, "margin": 0.5},
        {**base, "metadata": {"score_chosen": 9, "score_rejected": 4.5}},
        {**base, "score_chosen": 5, "score_rejected": 5},
        {"prompt": "Hi", "completions": ["a", "b", "c"], "scores": [1, 3, 1]},
    )
    assert by_margin.scores == ((0.5,), (0.0,))
    assert by_score.scores == ((9.0,), (4.5,))
    assert tied.ranking == ((0, 1),)
    assert ranked.ranking == ((1,), (0, 2))


def test_columns_can_be_renamed(tmp_path: Path) -> None:
    row = {"question": "Hi", "answers": ["Good.", "Bad."], "points": [1, 0]}
    (example,) = read(tmp_path, row, columns={"prompt": "question", "completions": "answers", "scores": "points"})
    assert example.responses == ("Good.", "Bad.")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "columns text fit no convention.*write who says what as messages"),
        ({"prompt": "Hi", "chosen": "Good."}, "no key 'rejected'"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "'prompt' is int '3', expected text or a list"),
        ({"prompt": "Hi", "chosen": "a", "rejected": None}, "'rejected' is null"),
        ({"prompt": "Hi", "chosen": "a", "rejected": [REJECTED]}, "of different kinds"),
        ({"chosen": [{"role": "robot", "content": "x"}], "rejected": [USER]}, "message role is 'robot'"),
        ({"chosen": [{"role": "user", "content": 3}], "rejected": [USER]}, "message content is int"),
        ({"chosen": ["x"], "rejected": [USER]}, "a message is str"),
        ({"prompt": "Hi", "completions": ["a", "b"], "scores": [1]}, "2 completions but 1 scores"),
        ({"prompt": "Hi", "completions": ["a", "b"], "scores": [1, "x"]}, "score 'x' is not a number"),
        ({"prompt": "Hi", "completions": ["a", "b"], "scores": [1, math.inf]}, "score inf is not finite"),
        ({"prompt": "Hi", "completions": ["a", 7]}, "a completion is int"),
        ({"prompt": "Hi", "completion": "a", "label": "yes"}, "'label' is 'yes', expected true or false"),
    ],
)
def test_unusable_rows_are_refused_by_line(tmp_path: Path, row: dict, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, row)
    assert "line 1" in str(caught.value)


def test_rows_without_a_preference_are_counted(tmp_path: Path) -> None:
    report = Report()
    rows = [
        {"chosen": [USER, CHOSEN], "rejected": [{"role": "user", "content": "Other"}, REJECTED]},
        {"chosen": [USER], "rejected": [USER]},
        {"prompt": [USER, CHOSEN], "chosen": [CHOSEN], "rejected": [REJECTED]},
        {"messages": [USER]},
    ]
    with pytest.raises(DataError, match=r"4 of 4 rows cannot be used, the first: .*line 1: chosen and rejected have"):
        read(tmp_path, *rows, report=report)
    assert report.dropped == Counter(
        {
            "chosen and rejected have different prompts": 1,
            "last turn is not the assistant's": 2,
            "prompt does not end with a user turn": 1,
        }
    )


def test_consecutive_turns_are_joined(tmp_path: Path) -> None:
    (example,) = read(tmp_path, {"messages": [USER, {"role": "user", "content": "there"}, CHOSEN]})
    assert example.messages == (Message("user", "Hi\n\nthere"),)


class TestIds:
    ROW: ClassVar = {"id": 7, "prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}

    def test_repeated_rows_are_counted_and_other_content_gets_an_id_of_its_own(self, tmp_path: Path) -> None:
        report = Report()
        assert [e.id for e in read(tmp_path, self.ROW, self.ROW, report=report)] == ["7"]
        assert report.dropped == Counter({"duplicate row": 1})
        report = Report()
        rows = [self.ROW, *({**self.ROW, "chosen": f"Better {n}."} for n in range(2))]
        assert [e.id for e in read(tmp_path, *rows, report=report)] == ["7", "7~2", "7~3"]
        assert "2 ids stood for another row before and were made unique" in str(report)

    def test_without_ids_the_line_is_the_id(self, tmp_path: Path) -> None:
        assert read(tmp_path, {"prompt": "a"}, {"prompt": "b"})[1].id == "line 2"


def test_hub_layout_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    row = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}
    (folder / "train-00000-of-00001.jsonl").write_text(json.dumps(row))
    (folder / "test-00000-of-00001.jsonl").write_text(json.dumps(row))
    source = PreferenceFile(str(tmp_path / "hub"))
    assert source.split_names() == {"train": ["train"], "val": [], "test": ["test"]}
    assert source.read("train", Report())[0].responses == ("Good.", "Bad.")


def test_shards_that_disagree_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"prompt": ["a"], "n": [1]}), folder / "train-00000.parquet")
    pq.write_table(pa.table({"prompt": ["a"], "n": [["x"]]}), folder / "train-00001.parquet")
    assert len(PreferenceFile(str(tmp_path / "hub")).read("train", Report())) == 2  # nothing reads n
    pq.write_table(pa.table({"messages": [[USER, CHOSEN]]}), folder / "train-00002.parquet")
    with pytest.raises(
        DataError, match=r"mixed layouts, .*00001.parquet \(prompts\) and .*00002.parquet \(dialogues\)"
    ):
        PreferenceFile(str(tmp_path / "hub")).read("train", Report())


@pytest.mark.parametrize("name", ["alpaca-eval-ranked/ranked.jsonl.gz"])
def test_real_ranked_lists(shared: Path, name: str) -> None:
    examples = PreferenceFile(str(shared / name)).read("train", Report())
    assert len(examples) == 805
    assert all(len(e.responses) >= 2 and len(e.ranking) >= 2 for e in examples)


class TestLists:
    ROW: ClassVar[dict] = {"prompt": "Hi", "completions": ["a", "b", "c"], "scores": [1, 3, 2]}

    def test_origins_and_ranks(self, tmp_path: Path) -> None:
        labelled, partly = read(
            tmp_path,
            {**self.ROW, "origins": ["x", "y", "z"], "ranks": [0, 1, 1]},
            {**self.ROW, "prompt": "Ho", "ranks": [0, None, 1]},
        )
        assert (labelled.origins, labelled.ranking) == (("x", "y", "z"), ((0,), (1, 2)))
        assert labelled.scores == ((1.0,), (3.0,), (2.0,))
        assert partly.ranking == ((1,), (2,), (0,))

    def test_labels_of_all_pairs(self, tmp_path: Path) -> None:
        # (1,2) (1,3) (1,4) (2,3) (2,4) (3,4): 1 ties 2 and beats 3; 4 beats 1 and 3; 2 beats 3; 4 loses to 2
        row = {"question": "Hi", "responses": ["a", "b", "c", "d"], "preference": [0, 1, 2, 1, 1, 2]}
        (example,) = read(tmp_path, row)
        # a: 0 + 1 - 1 = 0, b: 0 + 1 + 1 = 2, c: -3, d: 1 - 1 + 1 = 1
        assert example.ranking == ((1,), (3,), (0,), (2,))
        assert example.scores == ()

    def test_pro_format(self, tmp_path: Path) -> None:
        prefix = ["<|prompter|>Hi", "<|assistant|>Yes?", "<|prompter|>Tell me\n\nmore", "<|assistant|>"]
        row = {"prefix": [prefix] * 2, "suffix": ["a", "b"], "reward": [0.5, -1.0], "sft_index": 0, "meta": {}}
        report = Report()
        other = {**row, "prefix": [prefix, ["<|prompter|>No", "<|assistant|>"]]}
        example, own = read(tmp_path, row, other, {**row, "sft_index": 1}, report=report)
        assert [m.content for m in example.messages] == ["Hi", "Yes?", "Tell me\n\nmore"]
        assert [m.role for m in example.messages] == ["user", "assistant", "user"]
        assert (example.responses, example.ranking, example.scores) == (("a", "b"), ((0,), (1,)), ((0.5,), (-1.0,)))
        assert [c[-1].content for c in own.contexts] == ["Tell me\n\nmore", "No"]  # each response its own prefix
        assert report.dropped == Counter({"sft_index is not the first response": 1})

    def test_pro_format_as_the_released_code_reads_it(self, tmp_path: Path) -> None:
        prefix = [["<|prompter|>Hi", "<|assistant|>"]] * 2
        row = {"prefix": prefix, "suffix": ["a", "b"], "reward": [-0.3, 1.2], "sft_index": 0, "meta": {}}
        summary = {**row, "prefix": ["SUBREDDIT: r/x\nTL;DR:"] * 2, "suffix": [" a", " b"]}
        not_ranked, short, unscored = read(tmp_path, row, summary, {**row, "suffix": ["c", "d"], "reward": [1.0, 1.0]})
        assert (not_ranked.ranking, not_ranked.scores) == (((0,), (1,)), ((-0.3,), (1.2,)))
        assert (short.messages, short.responses) == ((Message("user", "SUBREDDIT: r/x\nTL;DR:"),), ("a", "b"))
        assert (unscored.ranking, unscored.scores) == (((0,), (1,)), ())

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"ranks": [0, 1]}, "'ranks' is [0, 1], expected 3 whole numbers or nulls"),
            ({"ranks": [0, 1, "x"]}, "expected 3 whole numbers or nulls"),
            ({"preference": [0, 1]}, "'preference' is [0, 1], expected 3 labels of 0, 1 or 2"),
            ({"origins": ["x"]}, "3 responses but 1 origins"),
            ({"scores": [1, 2]}, "3 completions but 2 scores"),
            ({"prefix": [["Hi"]], "suffix": ["a"], "reward": [1]}, "must begin with a role tag"),
            ({"prefix": [["Hi"]], "suffix": ["a", "b"], "reward": [1]}, "1 prefixes, 2 suffixes and 1 rewards"),
        ],
    )
    def test_rows_that_contradict_themselves(self, tmp_path: Path, changes: dict, line: str) -> None:
        with pytest.raises(DataError) as error:
            read(tmp_path, {**self.ROW, **changes})
        assert line in str(error.value)
