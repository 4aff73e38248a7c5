"""Messages that hold more than text, and examples whose responses are such messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from align.data.selection import select
from align.records import Example, Message

CALL = '[{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]'
TURN = Message("assistant", "I look.", reasoning_content="hm", tool_calls=CALL, weight=0.0)
ASKED = (Message("user", "Weather?"),)
ANSWERED = (*ASKED, TURN, Message("tool", "3 C", tool_call_id="1", name="weather"))


def test_a_turn_goes_out_and_comes_back() -> None:
    assert Message("user", "Hi").as_turn() == {"role": "user", "content": "Hi"}
    turn = TURN.as_turn()
    assert turn["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert (turn["reasoning_content"], turn["weight"]) == ("hm", 0.0)
    assert all(Message.of(m.as_turn()) == m for m in ANSWERED)
    assert len({*ANSWERED}) == 3


def test_prompts_may_end_with_what_a_tool_said() -> None:
    assert Example("e", ANSWERED).messages[-1].role == "tool"
    with pytest.raises(ValueError, match="must end with a user turn"):
        Example("e", ANSWERED[:2])


def test_answers_and_contexts_go_with_their_responses() -> None:
    good = TURN._replace(content="It is 3 C.")
    example = Example(
        "e",
        ANSWERED,
        ("It is 3 C.", "I do not know."),
        answers=(good, Message("assistant", "I do not know.")),
        contexts=(ANSWERED, ASKED),
        ranking=((0,), (1,)),
    )
    assert (example.context(1), example.answer(0)) == (ASKED, good)
    worst = select(example, [1], [0])
    assert (worst.messages, worst.contexts, worst.answer(0).content) == (ASKED, (), "I do not know.")
    assert select(example, [1, 0], [0, 1]).contexts == (ASKED, ANSWERED)
    assert Example("e", ASKED, ("a",)).answer(0) == Message("assistant", "a")
    with pytest.raises(ValueError, match="1 answers for 2 responses"):
        replace(example, answers=(good,))
