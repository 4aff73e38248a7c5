"""Rows as labelling tools, tuning services and other programs write them; each stands for a kind, rows are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.errors import DataError
from align.records import Example, Message
from tests.data.test_layouts import ASKED, read

Q, G, B = {"prompt": "Hi"}, "Good.", "Bad."
TOOL = {"name": "get", "description": "d", "parameters": {"type": "object"}}
CALL = [{"id": "t1", "type": "function", "function": {"name": "get", "arguments": {"city": "Oslo"}}}]
PAIRS: dict[str, dict[str, Any]] = {
    "better": {"question": "Hi", "better": G, "worse": B},
    "good": {**Q, "good": G, "bad": B},
    "preferred": {**Q, "preferred": G, "dispreferred": B},
    "accepted": {**Q, "accepted": G, "rejected": B},
    "win": {**Q, "win": G, "lose": B},
    "answers": {**Q, "chosen_answer": G, "rejected_answer": B},
    "torchtune": {
        f"{side}_conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]
        for side, text in (("chosen", G), ("rejected", B))
    },
    "LMFlow": {
        side: {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]}
        for side, text in (("chosen", G), ("rejected", B))
    },
    "Label Studio": {**Q, "answer1": B, "answer2": G, "comparison": "right"},
    "Argilla": {**Q, "response-1": B, "response-2": G, "preference": "response-2"},
    "spreadsheet": {"Question": "Hi", "Response A": G, "Response B": B, "Preferred": "A"},
    "form": {"Question": "Hi", "Model A answer": B, "Model B answer": G, "Which is better?": "Model B"},
    "title case": {"Prompt": "Hi", "Chosen": G, "Rejected": B},
    "MultiPref": {"text": "Hi", "completion_a": B, "completion_b": G, "overall_pref": "B-is-slightly-better"},
    "JudgeLM": {"question_body": "Hi", "answer1_body": G, "answer2_body": B, "score": [8, 2.5]},
    "Vertex": {"input_text": "Hi", "candidate_0": B, "candidate_1": G, "choice": 1},
    "Gemini": {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "completions": [
            {"score": score, "completion": {"role": "model", "parts": [{"text": text}]}}
            for score, text in ((1, G), (0, B))
        ],
    },
    "distilabel": {"input": "Hi", "generations": [B, G], "rating": [1.0, 4.5]},
    "ranks": {**Q, "responses": [B, G], "rank": [2, 1]},
    "a sequence of datasets": {"question": "Hi", "answers": {"text": [G, B], "score": [5, 2]}},
}
SINGLE: dict[str, dict[str, Any]] = {
    "user": {"user": "Hi", "assistant": G},
    "human": {"human": "Hi", "bot": G},
    "context": {"Context": "Hi", "Response": G},
    "title case": {"Instruction": "Hi", "Input": "", "Response": G},
    "Vertex": {"input_text": "Hi", "output_text": G},
    "authors": {"conversations": [{"author": "user", "text": "Hi"}, {"author": "bot", "text": G}]},
    "a sequence of datasets": {"messages": {"role": ["user", "assistant"], "content": ["Hi", G]}},
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str, tmp_path: Path) -> None:
    report = Report()
    (example,) = read(tmp_path, PAIRS[name], report=report)
    ranked = [example.responses[group[0]] for group in example.ranking]
    assert (example.messages, ranked, report.unused) == (ASKED, [G, B], {})


@pytest.mark.parametrize("name", SINGLE)
def test_single_answers(name: str, tmp_path: Path) -> None:
    (example,) = read(tmp_path, SINGLE[name])
    assert (example.messages, example.responses) == (ASKED, (G,))


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("feedback", "thumbs_up", "thumbs_down"),
        ("label", "chosen", "rejected"),
        ("label", "Good", "bad"),
        ("thumbs_up", True, False),
        ("vote", "up", "down"),
    ],
)
def test_labels(column: str, good: Any, bad: Any, tmp_path: Path) -> None:
    rows = ({**Q, "response": text, column: value} for text, value in ((G, good), (B, bad)))
    assert [(e.attributes, e.scores) for e in read(tmp_path, *rows)] == [
        (("desirable",), ((1.0,),)),
        (("desirable",), ((0.0,),)),
    ]


def test_feedback_in_words_is_no_label(tmp_path: Path) -> None:
    report = Report()
    (example,) = read(tmp_path, {**Q, "response": G, "feedback": "A bit short."}, report=report)
    assert (example.attributes, list(report.unused)) == ((), ["feedback"])


@pytest.mark.parametrize("name", ["loss", "training", "trainable", "train_on_turn"])
def test_turns_that_are_not_learnt(name: str, tmp_path: Path) -> None:
    turns = [*({"role": "user", "content": "Hi"}, {"role": "assistant", "content": B, name: False})]
    (example,) = read(tmp_path, {"messages": [*turns, turns[0], {"role": "assistant", "content": G, name: True}]})
    assert [m.weight for m in (*example.messages, *example.turns)] == [1.0, 0.0, 1.0, 1.0]


def test_xtuner(tmp_path: Path) -> None:
    first = {"system": "Be kind.", "input": "Hi", "output": B, "need_loss": False}
    (example,) = read(tmp_path, {"conversation": [first, {"input": "And?", "output": G}]})
    turns = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", B, weight=0.0))
    assert example.messages == (*turns, Message("user", "And?"))


ANTHROPIC = {
    "system": "Be kind.",
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "get", "input": {"city": "Oslo"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "3"}]},
        {"role": "assistant", "content": [{"type": "text", "text": G}]},
    ],
    "tools": [{"name": "get", "description": "d", "input_schema": {"type": "object"}}],
}
BEDROCK = {
    "system": [{"text": "Be kind."}],
    "messages": [
        {"role": "user", "content": [{"text": "Hi"}]},
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm."}}},
                {"text": "Let me see."},
                {"toolUse": {"toolUseId": "t1", "name": "get", "input": {"city": "Oslo"}}},
            ],
        },
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"json": 3}]}}]},
        {"role": "assistant", "content": [{"text": G}]},
    ],
    "tools": [{"toolSpec": {"name": "get", "description": "d", "inputSchema": {"json": {"type": "object"}}}}],
}
GEMINI = {
    "systemInstruction": {"role": "system", "parts": [{"text": "Be kind."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True},
                {"text": "Let me see."},
                {"functionCall": {"id": "t1", "name": "get", "args": {"city": "Oslo"}}},
            ],
        },
        {"role": "user", "parts": [{"functionResponse": {"id": "t1", "name": "", "response": {"degrees": 3}}}]},
        {"role": "model", "parts": [{"text": G}]},
    ],
    "tools": [{"functionDeclarations": [TOOL]}],
}


@pytest.mark.parametrize(("row", "result"), [(ANTHROPIC, "3"), (BEDROCK, "3"), (GEMINI, '{"degrees": 3}')])
def test_turns_in_parts(row: dict[str, Any], result: str, tmp_path: Path) -> None:
    (example,) = read(tmp_path, row)
    called = Message("assistant", "Let me see.", reasoning_content="Hm.", tool_calls=json.dumps(CALL))
    asked = (Message("system", "Be kind."), *ASKED, called, Message("tool", result, tool_call_id="t1"))
    assert (example.messages, example.responses) == (asked, (G,))
    assert json.loads(example.tools) == [{"type": "function", "function": TOOL}]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({**Q, "responses": [B, G], "best": 1}, "column 'best' says something that the layout 'lists' does not read"),
        (
            {**Q, "completions": [B, G], "chosen_idx": 1},
            "column 'chosen_idx' says something that the layout 'lists' do",
        ),
        ({**Q, "text_one": B, "text_two": G, "winner": "one"}, "column 'winner' says something"),
        ({**Q, "responses": [B, G], "ranking": [2, 1]}, r"\{ranks: ranking\}"),
        ({**Q, "completions": [B, G], "preference": 1}, "'preference' is int"),
        ({"article": "Long.", "question": "Hi", "answer": G}, r"\{input: article\}"),
        ({"data": {"prompt": "Hi"}, "annotations": []}, r"\{prompt: data.prompt\}"),
        ({"question_id": "q1", "answer_id": "a1", "turns": []}, r"\{prompt: YOURS, response: YOURS\}"),
    ],
)
def test_what_would_be_lost_is_refused(row: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=fault):
        read(tmp_path, row)


def test_values_inside_columns(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    verdict = {"result": [{"value": {"selected": "left"}}]}
    file.write_text(json.dumps([{"data": {"prompt": "Hi", "a1": G, "a2": B}, "annotations": [verdict]}]))
    columns = {"prompt": "data.prompt", "answer1": "data.a1", "answer2": "data.a2"}
    columns["winner"] = "annotations.0.result.0.value.selected"
    (example,) = PreferenceFile(str(file), columns=columns).read("train", Report())
    assert (example.messages, example.responses, example.ranking) == (ASKED, (G, B), ((0,), (1,)))


ROW = {**Q, "chosen": G, "rejected": B}
FILES = {
    "named.json": json.dumps({"version": 1, "data": [ROW, ROW | {"prompt": "Two"}]}, indent=1),
    "viewer.json": json.dumps({"features": [{"name": "prompt"}], "rows": [{"row_idx": i, "row": ROW} for i in (0, 1)]}),
    "ids.json": json.dumps({"one": ROW, "two": ROW}),
    "columns.json": json.dumps({name: [value, value] for name, value in ROW.items()}),
    "pandas.json": json.dumps({name: {"0": value, "1": value} for name, value in ROW.items()}),
    "split.json": json.dumps({"columns": list(ROW), "index": [0, 1], "data": [list(ROW.values())] * 2}),
    "joined.json": json.dumps(ROW) * 2,
    "joined.jsonl": "\n".join([json.dumps(ROW, indent=2)] * 2),
    "pretty.jsonl": json.dumps([ROW, ROW], indent=4),
    "excel.csv": "sep=;\r\nprompt;chosen;rejected;\r\n" + f"Hi;{G};{B};\r\n" * 2,
    "pipes.csv": "prompt|chosen|rejected\n" + f"Hi|{G}|{B}\n" * 2,
    "commas.csv": "\ufeffprompt;chosen;rejected;about, if known\n" + f"Hi;{G};{B};\n" * 2,
}


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    found = list(PreferenceFile(str(tmp_path / name)).read("train", Report()))
    assert [(e.messages, e.responses, e.ranking) for e in found[:1]] == [(ASKED, (G, B), ((0,), (1,)))]
    assert len(found) == 2


def test_dialogues_without_a_name(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": G}]
    for name, text in (("d.json", json.dumps([turns, turns])), ("d.jsonl", "\n".join([json.dumps(turns)] * 2))):
        (tmp_path / name).write_text(text)
        found: list[Example] = list(PreferenceFile(str(tmp_path / name)).read("train", Report()))
        assert [(e.messages, e.responses) for e in found] == [(ASKED, (G,))] * 2


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"PK\x03\x04", "a ZIP archive"), (b"SQLite format 3\0", "SQLite"), (b"\0" * 257 + b"ustar", "a tar archive")],
)
def test_files_of_other_kinds_are_named(head: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(head + b"\0" * 300)
    with pytest.raises(DataError, match=kind):
        PreferenceFile(str(tmp_path / "rows.jsonl")).read("train", Report())
