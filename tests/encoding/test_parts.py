"""Templates of models of pictures and text, which take a turn as a list of parts and leave plain texts out."""

from __future__ import annotations

from typing import Any

import pytest

from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.errors import ModelError
from align.records import Message
from tests.tiny import tiny_tokenizer

IN_A_LOOP = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""As SmolVLM and Idefics 3 have it."""
BY_TYPE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}{{ ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'][0]['text'] + '</s>' }}{% endif %}{% endfor %}"
)
"""As LLaVA-NeXT has it, without a generation prompt."""
PRINTS = "{% for m in messages %}{% if m.content is not string %}{{ m.content }}{% endif %}</s>{% endfor %}"
DIALOGUE = [Message("user", "Hi"), Message("assistant", "Yo: 'so'"), Message("user", "Again?\n")]


def texts(source: str, messages: list[Message], *, parts: bool, **more: Any) -> str:
    """What transformers writes."""
    turns = [
        {"role": m.role, "content": [{"type": "text", "text": m.content}] if parts else m.content} for m in messages
    ]
    return str(tiny_tokenizer(source).apply_chat_template(turns, tokenize=False, **more))


@pytest.mark.parametrize("source", [IN_A_LOOP, BY_TYPE])
def test_texts_are_written_as_transformers_writes_parts(source: str) -> None:
    """And the template that is exported writes plain texts and parts alike, in any program."""
    template = make_template(tiny_tokenizer(source), "chat")
    assert any("list of parts" in told for told in template.told)
    prompt = texts(source, DIALOGUE, parts=True, add_generation_prompt=True)
    for _ in range(2):  # the second is written as the first one was
        rendered = template.render(DIALOGUE, "Fine.")
        assert rendered.prompt == template.prompt(DIALOGUE) == prompt
        whole = texts(source, [*DIALOGUE, Message("assistant", "Fine.")], parts=True)
        assert whole.removeprefix(prompt).startswith(rendered.response)
    for parts in (True, False):
        assert texts(template.jinja, DIALOGUE, parts=parts, add_generation_prompt=True) == prompt


def test_a_list_that_is_printed_is_no_text() -> None:
    with pytest.raises(ModelError, match="leaves out a user turn"):
        make_template(tiny_tokenizer(PRINTS), "chat")


def test_the_parts_end_as_the_template_ends_them() -> None:
    coder = Encoder(tiny_tokenizer(IN_A_LOOP), make_template(tiny_tokenizer(IN_A_LOOP)), Truncation(None, 10_000))
    ids = coder.prompt_ids(tuple(DIALOGUE))
    assert coder.tokenizer.decode(ids).endswith("User: Again?\n<|im_end|>\nAssistant:")
    assert coder.template.eos_id == coder.tokenizer.convert_tokens_to_ids("<|im_end|>")
