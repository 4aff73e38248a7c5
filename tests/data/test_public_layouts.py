"""Layouts of public datasets that were refused, or of which a part was read past; rows are made up here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.errors import DataError
from align.records import Message
from tests.data.rows import written
from tests.data.test_layouts import ASKED, BAD, GOOD, USER, read

CALL = {"name": "get", "arguments": {"city": "Oslo"}}
TOOL = {"name": "get", "description": "d", "parameters": {"city": {"type": "str"}}}
SINGLE: dict[str, dict[str, Any]] = {
    "Aya, FLAN": {"inputs": "Hi", "targets": "Good.", "language": "English"},
    "Firefly": {"kind": "k", "input": "Hi", "target": "Good."},
    "MOSS": {"conversation": [{"human": "Hi", "assistant": "Good."}]},
    "Cohere": {"messages": [{"role": "User", "content": "Hi"}, {"role": "Chatbot", "content": "Good."}]},
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_answer(name: str, tmp_path: Path) -> None:
    (example,) = read(tmp_path, SINGLE[name])
    assert (example.messages, example.responses) == (ASKED, ("Good.",))


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Hi", "solution": "S.", "thinking_trajectories": ["Hm."], "attempt": "Good."},
        {"Question": "Hi", "Complex_CoT": "Hm.", "Response": "Good."},
    ],
)
def test_a_thought_in_a_column_of_its_own(row: dict[str, Any], tmp_path: Path) -> None:
    (example,) = read(tmp_path, row)
    assert example.messages == ASKED
    assert example.turns == (Message("assistant", "Good.", reasoning_content="Hm."),)


def test_calls_of_xlam(tmp_path: Path) -> None:
    (example,) = read(tmp_path, {"query": "Hi", "answers": json.dumps([CALL]), "tools": json.dumps([TOOL])})
    assert [call["function"] for call in json.loads(example.turns[0].tool_calls)] == [CALL]
    assert json.loads(example.tools) == [{"type": "function", "function": TOOL}]


@pytest.mark.parametrize(
    ("scores", "ranking"),
    [((5, 1), ((0,), (1,))), (("1", "5"), ((1,), (0,))), ((2.0, 2.0), ((0, 1),))],
)
def test_two_answers_with_scores(scores: tuple[Any, Any], ranking: tuple[Any, ...], tmp_path: Path) -> None:
    """They were prompts without an answer."""
    row = {"prompt": "Hi", "response_a": "Good.", "response_b": "Bad.", "score_a": scores[0], "score_b": scores[1]}
    (example,) = read(tmp_path, row)
    assert (example.responses, example.ranking) == (("Good.", "Bad."), ranking)
    assert example.scores == tuple((float(score),) for score in scores)


def test_steps_before_a_step_are_not_lost(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "initial_reason_steps": "Step 1.", "chosen": "Good.", "rejected": "Bad."}
    with pytest.raises(DataError, match=r"--data\.columns '\{input: initial_reason_steps\}' adds it to the prompt"):
        read(tmp_path, row)
    (example,) = read(tmp_path, row, columns={"input": "initial_reason_steps"})
    assert example.messages == (Message("user", "Hi\n\nStep 1."),)


def test_cells_that_pandas_wrote_from_nested_columns(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    pandas = pytest.importorskip("pandas")
    sides = {"chosen": [USER, {**GOOD, "content": 'It\'s "a"\n b}\n {c'}], "rejected": [USER, BAD]}
    frame = pandas.DataFrame([{"prompt": "Hi", **{name: np.array(side) for name, side in sides.items()}}])
    frame.to_csv(tmp_path / "data.csv", index=False)
    (example,) = PreferenceFile(str(tmp_path / "data.csv")).read("train", Report())
    assert (example.messages, example.responses) == (ASKED, ('It\'s "a"\n b}\n {c', "Bad."))


def test_preferences_and_the_same_rows_for_sft_are_read_once(tmp_path: Path) -> None:
    """HuggingFaceH4/ultrafeedback_binarized has both; every pair was trained on twice in an epoch."""
    row = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}
    for name in ("train_prefs", "train_sft", "test_prefs", "test_sft"):
        written(tmp_path, row, name=f"{name}.jsonl")
    report = Report()
    source = PreferenceFile(str(tmp_path))
    assert len(source.read("train", report)) == 1
    assert report.notes == ["not read: test_sft, train_sft"]
    assert len(source.read("test", Report())) == 1


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"sql_prompt": "a", "sql_context": "b", "sql": "c"}, "{prompt: sql_prompt, response: YOURS}"),
        ({"q_body": "a", "better_answer": "b", "worse_answer": "c"}, "{prompt: q_body, chosen: better_answer, rejected: worse_answer}"),
        ({"My_Question": "a", "My_Reply": "b"}, "{prompt: My_Question, response: My_Reply}"),
        ({"theQuestion": "a", "CoT": "b", "theAnswer": "c"}, "response: theAnswer, reasoning_content: CoT}"),
        ({"question_body": "a", "answer1_body": "b", "answer2_body": "c"}, "{prompt: question_body, chosen: YOURS, rejected: YOURS}"),
        ({"version": "1", "mine": [{"prompt": "a"}, {"prompt": "b"}]}, "one object with a list of 2 under 'mine': write that list"),
        ({"train": [{"prompt": "a"}], "test": [{"prompt": "b"}]}, "under train, test: write each as a file of its own"),
    ],
)  # fmt: skip
def test_what_is_proposed_stands_in_the_names(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    """Columns were proposed in their order: `chosen: language_code` would have been trained on."""
    with pytest.raises(DataError) as caught:
        read(tmp_path, row)
    assert told in str(caught.value)


def test_a_column_of_messages_is_proposed_as_the_prompt(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data\.columns '\{prompt: context_messages\}'"):
        read(tmp_path, {"context_messages": [USER], "chosen": "Good.", "rejected": "Bad."})


@pytest.mark.parametrize(
    ("chosen", "rejected", "ranking"),
    [
        ("Good.", ["Bad.", "Worse."], ((0,), (1, 2))),
        (["Good.", "Fine."], "Bad.", ((0, 1), (2,))),
        ("Good.", ["Bad."], ((0,), (1,))),
    ],
)
def test_one_answer_against_several(chosen: Any, rejected: Any, ranking: Any, tmp_path: Path) -> None:
    (example,) = read(tmp_path, {"system": "S.", "prompt": "Hi", "chosen": chosen, "rejected": rejected})
    texts = [text for side in (chosen, rejected) for text in ([side] if isinstance(side, str) else side)]
    assert (example.messages[-1], example.messages[0].role) == (ASKED[0], "system")
    assert (example.responses, example.ranking) == (tuple(texts), ranking)
