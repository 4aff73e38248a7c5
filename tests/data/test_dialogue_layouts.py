"""Dialogues in every layout: whole ones, pairs of them, and what they are asked to learn."""

from __future__ import annotations

import json
from pathlib import Path

from align.data.source import Report
from tests.data.test_layouts import ASKED, BAD, GOOD, GPT_GOOD, HUMAN, USER, read


class TestDialogues:
    TURNS = (USER, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Go"})

    def test_history_of_llama_factory(self, tmp_path: Path) -> None:
        row = {"instruction": "Go", "input": "", "output": "Gone.", "system": "S.", "history": [["Hi", "Yes?"]]}
        (example,) = read(tmp_path, row)
        assert [(m.role, m.content) for m in example.messages] == [
            ("system", "S."),
            ("user", "Hi"),
            ("assistant", "Yes?"),
            ("user", "Go"),
        ]

    def test_weights_of_turns(self, tmp_path: Path) -> None:
        turns = [USER, {**GOOD, "train": False}, {"role": "user", "content": "Go"}, {**GOOD, "weight": 0}]
        (example,) = read(tmp_path, {"messages": turns})
        assert example.whole
        assert [m.weight for m in example.messages] == [1.0, 0.0, 1.0]
        assert example.answer(0).weight == 0.0
        (labelled,) = read(tmp_path, {"messages": turns, "label": True})
        assert not labelled.whole  # the label is that of the last turn

    def test_tools_of_openai_and_llama_factory(self, tmp_path: Path) -> None:
        call = {"id": "1", "type": "function", "function": {"name": "w", "arguments": '{"c": "Oslo"}'}}
        schema = {"name": "w", "parameters": {"type": "object"}}
        openai = {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": "3 C"},
                GOOD,
            ],
            "tools": [{"type": "function", "function": schema}],
        }
        sharegpt = {
            "conversations": [
                HUMAN,
                {"from": "function_call", "value": '{"name": "w", "arguments": {"c": "Oslo"}}'},
                {"from": "observation", "value": "3 C"},
                GPT_GOOD,
            ],
            "tools": json.dumps([schema]),
        }
        for row in (openai, sharegpt):
            (example,) = read(tmp_path, row)
            assert [m.role for m in example.messages] == ["user", "assistant", "tool"]
            made = json.loads(example.messages[1].tool_calls)[0]["function"]
            assert made == {"name": "w", "arguments": {"c": "Oslo"}}
            assert json.loads(example.tools) == [{"type": "function", "function": schema}]

    def test_tools_inside_the_input_of_openai_preferences(self, tmp_path: Path) -> None:
        given = {"messages": [USER], "tools": [{"type": "function", "function": {"name": "w"}}]}
        row = {"input": given, "preferred_output": [GOOD], "non_preferred_output": [BAD]}
        (example,) = read(tmp_path, row)
        assert json.loads(example.tools)[0]["function"]["name"] == "w"

    def test_pairs_of_input_and_output_and_dialogues_with_a_bare_answer(self, tmp_path: Path) -> None:
        capybara = {
            "source": "x",
            "conversation": [{"input": "Hi", "output": "Yes?"}, {"input": "Go", "output": "Gone."}],
        }
        checked = {"messages": [USER, GOOD], "answer": "42"}
        report = Report()
        first, second = read(tmp_path, capybara, checked, report=report)
        assert ([m.content for m in first.messages], first.responses) == (["Hi", "Yes?", "Go"], ("Gone.",))
        assert (second.messages, second.responses) == (ASKED, ("Good.",))
        assert set(report.unused) == {"source", "answer"}

    def test_an_input_that_is_the_prompt_of_whole_dialogues(self, tmp_path: Path) -> None:
        (example,) = read(tmp_path, {"input": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]})
        assert example.messages == ASKED

    def test_a_response_may_be_a_call_or_have_a_thought(self, tmp_path: Path) -> None:
        call = {"role": "assistant", "content": None, "function_call": {"name": "w", "arguments": "{}"}}
        thought = {**GOOD, "reasoning_content": "hm"}
        called, thinking = read(tmp_path, {"messages": [USER, call]}, {"messages": [USER, thought]})
        assert (called.responses, bool(called.answer(0).tool_calls)) == (("",), True)
        assert (thinking.responses, thinking.answer(0).reasoning_content) == (("Good.",), "hm")

    def test_dialogues_that_part_before_the_last_turn(self, tmp_path: Path) -> None:
        other = [USER, {"role": "assistant", "content": "What?"}, {"role": "user", "content": "Go"}]
        (example,) = read(tmp_path, {"chosen": [*self.TURNS, GOOD], "rejected": [*other, BAD]})
        assert [c[1].content for c in example.contexts] == ["Yes?", "What?"]
        assert example.messages == example.contexts[0]

    def test_rows_with_more_than_text(self, tmp_path: Path) -> None:
        image = {"role": "user", "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "Hi"}]}
        report, plain = Report(), {"messages": [USER, GOOD]}
        broken = {"role": "assistant", "content": None}
        rows = [{"messages": [image, GOOD]}, plain, plain, {"messages": [USER, broken]}, plain]
        assert len(read(tmp_path, *rows, report=report)) == 3
        assert report.dropped == {"a message holds more than text (image_url)": 1, "content of a message is no text": 1}
        assert report.ids["content of a message is no text"] == ["line 4"]
