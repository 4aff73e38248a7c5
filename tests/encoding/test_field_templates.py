"""Templates as model families have them that went wrong without a word: what they leave out, and what is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.encoding.encoder import Dropped, Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.records import EncodedGroup, Example, Message
from tests.tiny import tiny_tokenizer

TURNS = (Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "Again?"))
FINE = Message("assistant", "Fine.")
TOOLS = json.dumps([{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {}}}])
CALL = json.dumps([{"type": "function", "function": {"name": "weather", "arguments": {"c": 1}}}])
EACH = "{% for m in messages %}"
TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n"
SCHEMAS = "{% if tools %}{{ tools | tojson }}{% endif %}"
CALLS_LEFT_OUT = f"{SCHEMAS}{EACH}{TURN}{{% endfor %}}{OPEN}{{% endif %}}"
"""Writes the schemas, and no call: the original template of LFM2, and Falcon-H1's."""
EMPTY_IN_PROMPT = f"{EACH}{TURN}{{% endfor %}}{OPEN}<|channel>thought\n<channel|>{{% endif %}}"
"""Gemma 4: the generation prompt has an empty thought that no answered turn has."""
OPENS_WITH_BLANK_LINE = (
    EACH + "<|im_start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}"
    "<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}" + OPEN + "<think>\n\n{% endif %}"
)
"""Qwen3 in axolotl: the thought is opened by a blank line, and an empty one begins with it."""
MARKED_OTHERWISE = (
    EACH + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>"
    "{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}" + OPEN + "<think>\n{% endif %}"
)
"""DeepSeek-R1 and Nemotron 3 for training: an answered turn has no thought, and the generation prompt opens one."""
SPACED = (
    EACH + "{% if m.role == 'assistant' %}ASSISTANT: {% generation %}{{ m.content }} {% endgeneration %}"
    "{% else %}USER: {{ m.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""LLaVA and Vicuna: the marked part begins behind the space that is in its first token, and ends with the next one's."""


def encoder(source: str, folder: Path) -> Encoder:
    file = folder / "template.jinja"
    file.write_text(source)
    tokenizer: Any = tiny_tokenizer()
    return Encoder(tokenizer, make_template(tokenizer, str(file)), Truncation(None, 10_000), scores_turns=True)


def encoded(coder: Encoder, *turns: Message, **more: Any) -> EncodedGroup | Dropped:
    return coder.encode([Example("row", turns[:-1], (turns[-1].content,), answers=(turns[-1],), **more)])[0]


def scored(coder: Encoder, group: EncodedGroup | Dropped) -> str:
    assert isinstance(group, EncodedGroup), group
    ids, weights = group.response_ids[0], [1.0] * len(group.response_ids[0])
    if group.response_weights:
        weights = group.response_weights[0]
    return str(coder.tokenizer.decode([i for i, w in zip(ids, weights, strict=True) if w]))


def test_a_call_that_only_the_schemas_name_is_left_out(tmp_path: Path) -> None:
    coder = encoder(CALLS_LEFT_OUT, tmp_path)
    asked, called = Message("user", "Which weather?"), Message("assistant", "", tool_calls=CALL)
    lost = Dropped("row", "chat template leaves out a tool call")
    assert encoded(coder, asked, called, tools=TOOLS) == lost
    assert encoded(coder, asked, called, Message("tool", "3"), FINE, tools=TOOLS) == lost
    assert scored(coder, encoded(coder, asked, FINE, tools=TOOLS)) == "Fine.<|im_end|>"


def test_a_call_that_the_user_names_is_left_out(tmp_path: Path) -> None:
    coder = encoder(CALLS_LEFT_OUT, tmp_path)
    group = encoded(coder, Message("user", "The weather?"), Message("assistant", "", tool_calls=CALL))
    assert group == Dropped("row", "chat template leaves out a tool call")


def test_an_empty_thought_of_the_prompt_alone_stays_in_the_prompt(tmp_path: Path) -> None:
    coder = encoder(EMPTY_IN_PROMPT, tmp_path)
    group = encoded(coder, *TURNS, FINE)
    assert isinstance(group, EncodedGroup)
    assert coder.tokenizer.decode(group.prompt_ids).endswith("assistant\n<|channel>thought\n<channel|>")
    assert coder.prompt_ids(TURNS) == group.prompt_ids
    assert scored(coder, group) == "Fine.<|im_end|>"
    assert any("empty thought" in told for told in coder.template.told)


@pytest.mark.parametrize(
    ("thought", "expected"), [("", "</think>\n\nFine.<|im_end|>"), ("hm", "hm\n</think>\n\nFine.<|im_end|>")]
)
def test_a_thought_that_a_blank_line_opens_is_kept(tmp_path: Path, thought: str, expected: str) -> None:
    coder = encoder(OPENS_WITH_BLANK_LINE, tmp_path)
    group = encoded(coder, *TURNS, FINE._replace(reasoning_content=thought))
    assert scored(coder, group) == expected
    assert isinstance(group, EncodedGroup)
    assert "with a thought that the template leaves out" not in group.notes


def test_blocks_of_a_text_that_is_written_otherwise_are_not_places_in_it(tmp_path: Path) -> None:
    coder = encoder(MARKED_OTHERWISE, tmp_path)
    group = encoded(coder, *TURNS, FINE, whole=True)
    assert scored(coder, group) == "\n</think>\n\nFine.<|im_end|>"
    assert isinstance(group, EncodedGroup)
    assert any("earlier turn that is not scored" in note for note in group.notes)


def test_a_token_belongs_to_the_turn_of_its_first_letter(tmp_path: Path) -> None:
    coder = encoder(SPACED, tmp_path)
    group = encoded(coder, *TURNS, FINE, whole=True)
    assert "".join(scored(coder, group).split()) == "".join(f"Yo Fine. {coder.tokenizer.eos_token}".split())
