"""What was read is written in the field's columns: our own reader gets it back, and so does TRL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import trl

from align.data.exported_rows import LAYOUTS, ExportName, exported
from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.data.writing import write_rows
from align.errors import ConfigError, DataError
from align.records import Example, Message
from tests.tiny import tiny_tokenizer

USER, GOOD, BAD = (
    {"role": r, "content": c} for r, c in (("user", "Hi"), ("assistant", "Good."), ("assistant", "Bad."))
)
SYSTEM = {"role": "system", "content": "S."}
EARLIER, MORE = {"role": "assistant", "content": "Earlier."}, {"role": "user", "content": "More\u2028?"}
CALL = {
    **{"role": "assistant", "content": ""},
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
}
RESULT = {"role": "tool", "content": "3", "tool_call_id": "1", "name": "f"}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
THOUGHT = {"role": "assistant", "content": "Good.", "reasoning_content": "Hm."}

PAIRS = [
    {"id": "a", "prompt": "Hi", "chosen": "Good.", "rejected": "Bad.", "score_chosen": 2.5, "score_rejected": -1},
    {"id": "b", "prompt": "Ho", "chosen": "Günstig.", "rejected": "Bad.", "weight": 0.5, "chosen_model": "m"},
]
TURNS = [
    {"id": "s", "system": "S.", "prompt": "Hi", "chosen": "Good.", "rejected": "Bad."},
    {"id": "t", "prompt": [USER, EARLIER, MORE], "chosen": [THOUGHT], "rejected": [BAD], "tools": TOOLS},
    {"id": "d", "chosen": [USER, EARLIER, MORE, GOOD], "rejected": [USER, GOOD, MORE, BAD], "margin": 2},
    {"id": "c", "prompt": [USER, CALL, RESULT], "chosen": [GOOD], "rejected": [CALL], "tools": json.dumps(TOOLS)},
]
LISTS = [
    {"id": "l", "prompt": "Hi", "completions": ["a", "b", "c"], "scores": [1, 3, None], "ranks": [1, 0, 1]},
    {"id": "m", "prompt": "Ho", "completions": ["a", "b", "c"], "scores": [1, 1.5, 0], "origins": ["x", "", "y"]},
]
DIALOGUES = [
    {"id": "1", "messages": [SYSTEM, USER, EARLIER, MORE, THOUGHT]},
    {"id": "2", "messages": [USER, {**EARLIER, "train": False}, MORE, GOOD], "helpfulness": 3},
    {"id": "3", "messages": [USER, CALL, RESULT, GOOD], "tools": TOOLS},
]
LABELS = [
    {"id": "1", "prompt": "Hi", "completion": "Good.", "label": True},
    {"id": "2", "prompt": "Hi", "completion": "Bad.", "label": "false"},
]
RATED = [
    {"id": "1", "prompt": "Hi", "response": "Good.", "helpfulness": 3, "verbosity": 1},
    {"id": "2", "prompt": "Hi", "response": "Bad.", "helpfulness": 0},
]
CASES: list[tuple[ExportName, list[dict[str, Any]]]] = [
    *(("pairs", PAIRS), ("pairs", TURNS), ("pairs", PAIRS + TURNS), ("all_pairs", LISTS[1:]), ("lists", LISTS)),
    *(("dialogues", DIALOGUES), ("unpaired", LABELS), ("unpaired", TURNS), ("regression", RATED)),
    *(("singles", PAIRS), ("singles", TURNS), ("prompts", PAIRS), ("prompts", TURNS), ("lists", PAIRS + TURNS)),
]


def examples_of(path: Path) -> list[Example]:
    return PreferenceFile(str(path)).read("train", Report())


def export(
    folder: Path, rows: Sequence[dict[str, Any]], name: ExportName, ending: str = ".jsonl", **options: bool
) -> tuple[Path, Report, list[Example]]:
    """Write rows, read them, export them; return the file, the report and what the view made of the rows."""
    (folder / "in").mkdir()
    source = folder / "in" / "data.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read, report = examples_of(source), Report()
    out = folder / f"data{ending}"
    write_rows(out, exported(read, name, report, **options))
    return out, report, LAYOUTS[name].view.apply(read, Report())


def comparable(example: Example) -> Example:
    """One form for what means the same; the model behind a lone response is written, and not read by us."""
    plain = all(answer == Message("assistant", answer.content) for answer in example.answers)
    return replace(
        example,
        answers=() if plain else example.answers,
        attributes=example.attributes if example.scores else (),
        origins=example.origins if len(example.responses) > 1 else (),
    )


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize(("name", "rows"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_our_reader_gets_equal_records(
    tmp_path: Path, name: ExportName, rows: list[dict[str, Any]], ending: str
) -> None:
    out, report, groups = export(tmp_path, rows, name, ending)
    again = LAYOUTS[name].view.apply(examples_of(out), Report())
    assert [comparable(example) for example in again] == [comparable(example) for example in groups]
    assert len(groups) == report.kept > 0


def test_columns_and_texts_are_the_fields(tmp_path: Path) -> None:
    out, _, _ = export(tmp_path, PAIRS, "pairs")
    first, second = map(json.loads, out.read_text().splitlines())
    pair = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad.", "score_chosen": 2.5, "score_rejected": -1.0}
    assert first == {"id": "a", **pair, "chosen_model": None, "weight": None}
    assert (second["weight"], second["chosen_model"], second["score_chosen"]) == (0.5, "m", None)
    assert "Günstig" in out.read_text()


def test_turns_make_every_row_messages(tmp_path: Path) -> None:
    out, _, _ = export(tmp_path, PAIRS + TURNS, "pairs")
    rows = [json.loads(line) for line in out.read_text().split("\n") if line]
    assert rows[0]["prompt"] == [USER]
    assert rows[0]["chosen"] == [GOOD]
    assert rows[2]["prompt"] == [SYSTEM, USER]
    assert rows[4]["prompt"] == [USER]  # the dialogues part after it
    assert rows[4]["chosen"] == [EARLIER, MORE, GOOD]


def test_messages_where_asked_for_or_where_a_text_would_be_read_as_turns(tmp_path: Path) -> None:
    out, _, _ = export(tmp_path, PAIRS, "pairs", messages=True)
    assert json.loads(out.read_text().splitlines()[0])["chosen"] == [GOOD]
    (tmp_path / "b").mkdir()
    typed = {"messages": [{"role": "user", "content": "Human: who?"}, GOOD]}
    out, _, groups = export(tmp_path / "b", [typed], "singles")
    assert json.loads(out.read_text())["prompt"] == typed["messages"][:1]
    assert examples_of(out)[0].messages == groups[0].messages


def test_what_has_no_column_is_told(tmp_path: Path) -> None:
    rated = {"prompt": "Hi", "response_0": "a", "response_1": "b", "better_response_id": 1}
    safe = {"is_response_0_safe": True, "is_response_1_safe": True, "safer_response_id": 0}
    _, report, _ = export(tmp_path, [{**rated, **safe}], "pairs")
    scores = "these scores are left out, since there is one column for scores: better, safer, safe"
    assert f"in 1 rows {scores}" in report.notes
    (tmp_path / "b").mkdir()
    equal = {**PAIRS[0], "prompt": [USER, EARLIER, MORE]}
    _, report, _ = export(tmp_path / "b", [equal, *LABELS], "unpaired")
    assert "unpaired has no column for these scores: score" in report.notes
    (tmp_path / "c").mkdir()
    _, report, _ = export(tmp_path / "c", DIALOGUES, "singles")
    assert any(note.startswith("in 3 rows earlier assistant turns become prompt") for note in report.notes)


def test_context_stays_context_in_dialogues(tmp_path: Path) -> None:
    out, report, _ = export(tmp_path, TURNS[1:2], "dialogues")
    messages = json.loads(out.read_text())["messages"]
    assert messages == [USER, {**EARLIER, "weight": 0.0}, MORE, THOUGHT]
    assert any("weight 0" in note for note in report.notes)


def test_rows_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    strange = {**CALL, "tool_calls": [{"function": {"name": "f", "arguments": {"x": float("nan")}}}]}
    out, report, _ = export(tmp_path, [{"messages": [USER, strange]}, *DIALOGUES], "dialogues")
    assert report.dropped == {"a number in a tool call is not finite": 1}
    assert len(examples_of(out)) == 3
    with pytest.raises(DataError, match="nothing to write as lists"):
        exported(examples_of(out), "lists", Report())


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "data.parquet"
    out.write_text("before")
    mixed = [{"x": {"a": 1}}, {"x": {"a": "text"}}]
    with pytest.raises(DataError, match=r"Parquet needs one type per column .*: write \.jsonl"):
        write_rows(out, mixed)
    with pytest.raises(TypeError):
        write_rows(tmp_path / "data.jsonl", [{"x": 1}, {"x": object()}])
    with pytest.raises(ConfigError, match=r"ends in \.jsonl or \.parquet"):
        write_rows(tmp_path / "data.csv", mixed)
    assert [p.name for p in tmp_path.iterdir()] == ["data.parquet"]
    assert out.read_text() == "before"


TEMPLATE = (
    "{% if tools %}TOOLS {{ tools | tojson }} {% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        (
            "pairs",
            TURNS[:1],
            {"prompt": "<system>S.</s><user>Hi</s><assistant>", "chosen": "Good.</s>", "rejected": "Bad.</s>"},
        ),
        (
            "dialogues",
            DIALOGUES[:1],
            {"text": "<system>S.</s><user>Hi</s><assistant>Earlier.</s><user>More\u2028?</s>"},
        ),
        ("unpaired", TURNS[:1], {"prompt": "<system>S.</s><user>Hi</s><assistant>", "completion": "Good.</s>"}),
        ("singles", TURNS[:1], {"prompt": "<system>S.</s><user>Hi</s><assistant>", "completion": "Good.</s>"}),
        ("prompts", TURNS[:1], {"prompt": "<system>S.</s><user>Hi</s><assistant>"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_trl_reads_it(
    tmp_path: Path, name: ExportName, rows: list[dict[str, Any]], expected: dict[str, str], ending: str
) -> None:
    out, _, _ = export(tmp_path, rows, name, ending)
    kind = "json" if ending == ".jsonl" else "parquet"
    loaded = datasets.load_dataset(kind, data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = tiny_tokenizer(TEMPLATE)
    row = loaded[0]
    assert trl.data_utils.is_conversational(row)
    given = trl.data_utils.maybe_apply_chat_template(row, tokenizer)
    for column, text in expected.items():
        assert given[column].startswith(text)
    assert given.get("label") in (None, True)
