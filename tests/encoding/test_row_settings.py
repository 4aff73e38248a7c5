"""`chat_template_kwargs` of single rows: each is written as a run with these settings, and transformers, write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.cli.generate import _plain
from align.data.exported_rows import exported
from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.encoding.encoder import Dropped, Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.evaluation.completions import EvaluationPrompt
from align.records import Beside, EncodedGroup, Example, Message
from tests.data.rows import written
from tests.encoding.test_families import FOLDER, PLAIN, SYSTEM, TOOLS, encoder, tokenizer

THOUGHT = Message("assistant", "Fine.", reasoning_content="Hm.")
ON, OFF = {"enable_thinking": True}, {"enable_thinking": False}


def row(
    settings: dict[str, Any], messages: tuple[Message, ...] = PLAIN, answer: Message = THOUGHT, **more: Any
) -> Example:
    beside = Beside(more.pop("tools", ""), settings).as_text
    return Example("row", messages, (answer.content,), answers=(answer,), tools=beside, **more)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("tools", ["", TOOLS])
@pytest.mark.parametrize("messages", [PLAIN, SYSTEM])
@pytest.mark.parametrize("name", ["qwen3", "smollm3"])
def test_a_row_is_written_as_a_run_with_its_settings(
    name: str, messages: tuple[Message, ...], tools: str, whole: bool
) -> None:
    rows = [row(settings, messages, whole=whole, tools=tools) for settings in (ON, OFF, {}, OFF, ON)]
    found = encoder(name).encode(rows)
    plain = row({}, messages, whole=whole, tools=tools)
    for settings, group in zip((ON, OFF, {}, OFF, ON), found, strict=True):
        assert [group] == encoder(name, **settings).encode([plain])
    assert found[0] != found[1]


@pytest.mark.parametrize("settings", [ON, OFF])
@pytest.mark.parametrize("name", ["qwen3", "smollm3"])
def test_generation_goes_on_from_what_transformers_writes(name: str, settings: dict[str, bool]) -> None:
    coder, own = encoder(name), tokenizer()
    own.chat_template = (FOLDER / f"{name}.jinja").read_text()
    turns = [m.as_turn() for m in SYSTEM]
    theirs = own.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False, **settings)
    assert coder.prompt_ids(SYSTEM, Beside("", settings).as_text) == theirs
    (group,) = coder.encode([row(settings, SYSTEM)])
    assert isinstance(group, EncodedGroup)
    assert group.prompt_ids == theirs


def test_a_row_goes_before_the_run() -> None:
    assert encoder("qwen3", **OFF).encode([row(ON)]) == encoder("qwen3", **ON).encode([row({})])


@pytest.mark.parametrize("setting", ["thinking", "add_generation_prompt", "messages", "tools"])
def test_what_the_template_does_not_read_drops_the_row(setting: str) -> None:
    fine, dropped = encoder("qwen3").encode([row({}), row({setting: True})])
    assert isinstance(fine, EncodedGroup)
    assert isinstance(dropped, Dropped)
    assert f"chat_template_kwargs.{setting}: " in dropped.reason
    assert "does not read it" in dropped.reason


def test_a_plain_transcript_reads_none() -> None:
    coder = Encoder(tokenizer(), make_template(tokenizer(), "plain"), Truncation())
    (dropped,) = coder.encode([row(ON, answer=Message("assistant", "Fine."))])
    assert dropped == Dropped("row", "a plain transcript has no settings")


def test_a_file_with_settings_is_read_and_written(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good."}]
    rows = [
        {"messages": turns, "tools": TOOLS, "chat_template_kwargs": {"enable_thinking": False, "other": None}},
        {"messages": turns, "chat_template_kwargs": json.dumps(ON)},
        {"messages": turns, "chat_template_kwargs": {}},
        {"messages": turns, "chat_template_kwargs": [1]},
    ]
    report = Report()
    examples = PreferenceFile(str(written(tmp_path, *rows))).read("train", report)
    assert [Beside.of(e.tools) for e in examples] == [
        Beside(json.dumps(json.loads(TOOLS)), OFF),
        Beside("", ON),
        Beside("", {}),
    ]
    assert report.dropped == {"'chat_template_kwargs' is list, expected an object": 1}
    assert not report.unused
    again = written(tmp_path, *exported(examples, "dialogues", Report()), name="again.jsonl")
    assert [e.tools for e in PreferenceFile(str(again)).read("train", Report())] == [e.tools for e in examples]


def test_generated_rows_keep_them() -> None:
    prompt = EvaluationPrompt(PLAIN[:1], tools=Beside(TOOLS, OFF).as_text)
    assert _plain(prompt)["chat_template_kwargs"] == OFF
    assert _plain(prompt)["tools"] == json.loads(TOOLS)
    assert "chat_template_kwargs" not in _plain(prompt._replace(tools=TOOLS))


@pytest.mark.parametrize(("limit", "answers"), [(1000, 6), (300, 4), (200, 2), (120, 1)])
def test_every_answer_that_a_cut_dialogue_keeps_is_scored(limit: int, answers: int) -> None:
    """Each of the six is 20 tokens with its end; an exchange and its markup are about 60, the system text 50."""
    turns = [
        turn
        for n in range(6)
        for turn in (Message("user", f"q{n} " + "x " * 8), Message("assistant", f"a{n} " + "y " * 8))
    ]
    dialogue = Example("row", tuple(turns[:-1]), (turns[-1].content,), answers=(turns[-1],), whole=True)
    (group,) = encoder("smollm2", Truncation(None, limit)).encode([dialogue])
    assert isinstance(group, EncodedGroup)
    weights = group.response_weights[0] if group.response_weights else [1.0] * len(group.response_ids[0])
    assert sum(weights) == 20 * answers
