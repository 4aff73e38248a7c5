"""Nothing that a row says disappears: columns are read, named, or refused with what to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.errors import ConfigError, DataError
from align.records import Example, Message

PAIR = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}


def read(tmp_path: Path, *rows: dict[str, Any], report: Report | None = None, **options: Any) -> list[Example]:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return PreferenceFile(str(path), **options).read("train", report or Report())


def test_columns_that_nothing_reads_are_named_once_with_their_first_place(tmp_path: Path) -> None:
    report = Report()
    read(tmp_path, PAIR, {**PAIR, "annotator": "x", "notes": ""}, {**PAIR, "annotator": "y"}, report=report)
    assert report.unused == {"annotator": "line 2"}
    assert "columns not used: annotator" in str(report)


def test_keys_of_turns_that_nothing_reads_are_named(tmp_path: Path) -> None:
    report = Report()
    turns = [{"role": "user", "content": "Hi", "time": 3}, {"role": "assistant", "content": "Good.", "refusal": None}]
    read(tmp_path, {"messages": turns}, report=report)
    assert report.unused == {"messages[].time": "line 1"}


def test_keys_of_responses_that_nothing_reads_are_named(tmp_path: Path) -> None:
    report = Report()
    entries = [{"text": "Good.", "reward": 1, "critique": "fine"}, {"text": "Bad.", "reward": 0}]
    read(tmp_path, {"prompt": "Hi", "completions": entries}, report=report)
    assert report.unused == {"completions[].critique": "line 1"}


@pytest.mark.parametrize("column", ["context", "label", "images", "reasoning_content", "tool_calls"])
def test_columns_with_meaning_are_refused(tmp_path: Path, column: str) -> None:
    row = {**PAIR, column: "something"}
    with pytest.raises(DataError, match=rf"line 2: column '{column}' .* --data.ignore_columns '\[{column}\]'"):
        read(tmp_path, PAIR, row)
    assert len(read(tmp_path, row, ignore_columns=[column])) == 1
    assert len(read(tmp_path, {**PAIR, column: None})) == 1


def test_a_context_is_mapped_as_the_refusal_says(tmp_path: Path) -> None:
    row = {**PAIR, "context": "there"}
    with pytest.raises(DataError, match=r"--data.columns '\{input: context\}'"):
        read(tmp_path, row)
    (example,) = read(tmp_path, row, columns={"input": "context"})
    assert example.messages == (Message("user", "Hi\n\nthere"),)


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_system_texts_join_the_prompt(tmp_path: Path, column: str) -> None:
    turns = [
        {"role": "system", "content": "T."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "x"},
    ]
    (example,) = read(tmp_path, {"messages": turns, column: "S."})
    assert example.messages[0] == Message("system", "S.\n\nT.")
    (example,) = read(tmp_path, {"messages": turns, column: "T."})
    assert example.messages[0] == Message("system", "T.")


def test_weights_of_rows(tmp_path: Path) -> None:
    report = Report()
    rows = [{**PAIR, "weight": w} for w in (0.5, "2", None, 0)]
    assert [e.weight for e in read(tmp_path, *rows, report=report)] == [0.5, 2.0, 1.0]
    assert (report.dropped, report.odd) == ({"weight 0": 1}, 0)


class TestPromptsAreNeverMadeUp:
    def test_a_common_start_is_no_prompt(self, tmp_path: Path) -> None:
        row = {"ask": "How?", "chosen": "To cook a steak, heat it.", "rejected": "To cook a steak, freeze it."}
        with pytest.raises(DataError, match=r"without role markers .* --data.columns '\{prompt: ask\}'"):
            read(tmp_path, row)
        (example,) = read(tmp_path, row, columns={"prompt": "ask"})
        assert (example.messages[0].content, example.responses[0]) == ("How?", "To cook a steak, heat it.")

    def test_a_row_without_its_prompt_is_dropped(self, tmp_path: Path) -> None:
        report = Report()
        rows = [PAIR, PAIR | {"prompt": None}, {"chosen": "To a", "rejected": "To b"}, PAIR | {"prompt": "\u200b \n"}]
        assert len(read(tmp_path, *rows, PAIR, {**PAIR, "prompt": "q"}, {**PAIR, "prompt": "r"}, report=report)) == 4
        assert report.dropped == {
            "no prompt: the answers are texts that begin with no role marker": 1,
            "columns fit no convention": 1,
            "empty prompt": 1,
        }

    def test_answers_are_not_read_past_as_a_prompt_file(self, tmp_path: Path) -> None:
        with pytest.raises(
            DataError, match=r"question, positive, negative fit no convention.*\{prompt: question, chosen: p"
        ):
            read(tmp_path, {"question": "Hi", "positive": "Good.", "negative": "Bad."})
        with pytest.raises(DataError, match=r"fit no convention.*\{prompt: prompt, chosen: pos, rejected: neg\}"):
            read(tmp_path, {"prompt": "Hi", "pos": "Good.", "neg": "Bad."})
        assert len(read(tmp_path, {"question": "Hi", "category": "x"})) == 1


class TestColumns:
    ROW = {"question": "Hi", "better": "Good.", "worse": "Bad."}  # noqa: RUF012

    def test_the_example_of_the_docs(self, tmp_path: Path) -> None:
        page = (Path(__file__).parents[2] / "docs" / "how-to" / "data.md").read_text()
        assert "--data.columns '{prompt: question, chosen: better, rejected: worse}'" in page
        (example,) = read(tmp_path, self.ROW, columns={"prompt": "question", "chosen": "better", "rejected": "worse"})
        assert (example.messages[0].content, example.responses) == ("Hi", ("Good.", "Bad."))

    def test_the_wrong_way_round_is_told(self, tmp_path: Path) -> None:
        line = r"data.columns is the wrong way round: write '\{prompt: question, chosen: better\}'"
        with pytest.raises(ConfigError, match=line):
            read(tmp_path, self.ROW, columns={"question": "prompt", "better": "chosen"})

    def test_a_column_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no column 'quesion', did you mean 'question'\? \(there: question, "):
            read(tmp_path, self.ROW, columns={"prompt": "quesion"})

    def test_a_mapped_column_takes_the_place_of_one_of_that_name(self, tmp_path: Path) -> None:
        (example,) = read(tmp_path, {**PAIR, "question": "Who?"}, columns={"prompt": "question"})
        assert example.messages[0].content == "Who?"
