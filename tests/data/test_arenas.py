"""Two answers with a verdict, in the layouts of arenas and of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.data.source import Report
from align.errors import DataError
from tests.data.test_layouts import BAD, GOOD, USER, read

FIRST, SECOND, TIE = ((0,), (1,)), ((1,), (0,)), ((0, 1),)
BATTLE = {"model_a": "x", "model_b": "y", "conversation_a": [USER, GOOD], "conversation_b": [USER, BAD]}
VOTES = {"prompt": '["Hi"]', "response_a": '["Good."]', "response_b": '["Bad."]'}
FARM = {"instruction": "Hi", "input": "", "output_1": "Good.", "output_2": "Bad."}


def flags(a: int, b: int, tie: int) -> dict[str, int]:
    return {"winner_model_a": a, "winner_model_b": b, "winner_tie": tie}


@pytest.mark.parametrize(
    ("row", "ranking"),
    [
        ({**BATTLE, "winner": "model_a"}, FIRST),
        ({**BATTLE, "winner": "model_b"}, SECOND),
        ({**BATTLE, "winner": "tie (bothbad)"}, TIE),
        ({**VOTES, **flags(1, 0, 0)}, FIRST),
        ({**VOTES, **flags(0, 1, 0)}, SECOND),
        ({**VOTES, **flags(0, 0, 1)}, TIE),
        ({**FARM, "preference": 1}, FIRST),
        ({**FARM, "preference": 2.0}, SECOND),
        ({**FARM, "preference": 1.5}, TIE),
        ({**FARM, "preference": 0}, TIE),
        ({"query": "Hi", "response": "Good.", "rejected_response": "Bad."}, FIRST),
        ({"messages": [USER, GOOD], "rejected_response": "Bad."}, FIRST),
        ({"messages": [USER], "response": "Good.", "rejected_response": "Bad."}, FIRST),
        ({"query": "Hi", "chosen_response": "Good.", "rejected_response": "Bad.", "response": "Other."}, FIRST),
        ({"messages": [USER, GOOD], "rejected_messages": [USER, BAD]}, FIRST),
        ({"question": "Hi", "response_chosen": "Good.", "response_rejected": "Bad."}, FIRST),
        (
            {
                "context": [USER],
                "completions": [{"rank": 0, "completion": [GOOD]}, {"rank": 1, "completion": [BAD]}],
            },
            FIRST,
        ),
        ({"instruction": "Hi", "generations": ["Good.", "Bad."], "ratings": [2, 5]}, SECOND),
        ({"question": "Hi", "answers": ["Good.", "Bad."], "scores": [3, 3]}, TIE),
    ],
)
def test_two_answers(row: dict[str, Any], ranking: tuple[tuple[int, ...], ...], tmp_path: Path) -> None:
    (example,) = read(tmp_path, row)
    assert [m.content for m in example.messages] == ["Hi"]
    assert example.responses == ("Good.", "Bad.")
    assert example.ranking == ranking


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**BATTLE, "winner": "nobody"}, "'winner' names no side"),
        ({**VOTES, **flags(0, 0, 0)}, "not exactly one of winner_model_a, winner_model_b and winner_tie is set"),
        ({**VOTES, "response_a": '["Good.", "More."]', **flags(1, 0, 0)}, "not one answer to each question"),
        ({**VOTES, "response_a": "[null]", **flags(1, 0, 0)}, "'response_a' holds an empty turn"),
        ({**FARM, "preference": None}, "'preference' is empty: no preference"),
        ({**FARM, "preference": 3}, "'preference' is out of range"),
        ({**BATTLE, "conversation_b": [{**USER, "content": "?"}, BAD], "winner": "model_a"}, "different prompts"),
    ],
)
def test_rows_that_do_not_say(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    report = Report()
    fine = {**row, **_fine(row)}
    assert len(read(tmp_path, fine, fine | {"id": "2"}, row, report=report)) >= 1
    assert any(reason in told for told in report.dropped), report.dropped


def _fine(row: dict[str, Any]) -> dict[str, Any]:
    """What makes the row one that can be read."""
    kind = {"winner": {**BATTLE, "winner": "model_a"}, "winner_tie": {**VOTES, **flags(1, 0, 0)}}
    return next((fine for key, fine in kind.items() if key in row), {**FARM, "preference": 1})


def test_dialogues_written_into_cells(tmp_path: Path) -> None:
    """Of a CSV file: as JSON, as Python prints them, and as numpy does, which leaves out what is too long."""
    good, bad = [USER, GOOD], [USER, BAD]
    rows = [
        {"chosen": json.dumps(good), "rejected": json.dumps(bad)},
        {"chosen": str(good), "rejected": str(bad)},
        {"chosen": str(good).replace("}, {", "}\n {"), "rejected": str(bad).replace("}, {", "}\n {")},
        {"chosen": str(good).replace("}, {", "}\n ...\n {"), "rejected": str(bad)},
    ]
    report = Report()
    found = read(tmp_path, *rows, report=report)
    assert [(e.messages[0].content, e.responses) for e in found] == [("Hi", ("Good.", "Bad."))] * 3
    assert report.dropped == {"'chosen' begins like messages and is neither JSON nor a Python list": 1}


def test_bare_texts_are_turns(tmp_path: Path) -> None:
    (example,) = read(tmp_path, {"conversations": ["Hi", "Hello.", "And?", "Good."]})
    assert [m.role for m in example.messages] == ["user", "assistant", "user"]
    assert example.responses == ("Good.",)


def test_answers_without_scores_are_no_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fit no convention"):
        read(tmp_path, {"title": "x", "context": "c", "questions": "Hi", "answers": ["Good.", "good"]})


@pytest.mark.parametrize(
    "text", ['{"value": 42}', '[{"content": "x"}]', '{"role": "admin"}', "{'from': 'Paris'}", '{"a": 1']
)
def test_answers_that_are_json_stay_texts(text: str, tmp_path: Path) -> None:
    (example,) = read(tmp_path, {"prompt": "Hi", "chosen": text, "rejected": "No."})
    assert example.responses == (text, "No.")
