"""Prompts that open or close a thought: the response spells the thought's end as the template itself does."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from align.encoding.templates import make_template
from align.records import Message
from tests.encoding.test_families import TOOLS, tokenizer

QUESTION = [Message("user", "Hi")]


def written(opening: str, before: str, closing: str, lead: str = "", plain: str = "") -> str:
    """A template of the field's shape: its prompt opens a thought, and an answer without one is written without."""
    return (
        "{{ tools | tojson if tools }}"
        "{% for m in messages %}{% if m.role == 'user' %}[U]{{ m.content }}{% else %}[A]"
        f"{{% if m.reasoning_content %}}{opening}{before}{{{{ m.reasoning_content | trim }}}}{closing}"
        f"{{% else %}}{plain}{{% endif %}}{lead}{{{{ m.content }}}}"
        "{% if m.tool_calls %}[C]{{ m.tool_calls | tojson }}{% endif %}[E]{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}[A]{opening}{before}{{% endif %}}"
    )


SHAPES = {
    # opening, what follows it, the thought's end, what leads the answer, what an answer without a thought begins with
    "its own tags": ("<|START_THINKING|>", "", "<|END_THINKING|>", "<|START_TEXT|>", ""),
    "closed alone": ("<think>", "", "</think>", "", "</think>"),
    "one newline": ("<think>", "\n", "\n</think>\n", "", "<think></think>"),
    "two newlines": ("<think>", "\n", "\n</think>\n\n", "", ""),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_end_of_a_thought_is_the_templates(shape: str, tmp_path: Path) -> None:
    """Against transformers' own rendering of the thought; without one, the same less the thought."""
    source = written(*SHAPES[shape])
    (tmp_path / "own.jinja").write_text(source)
    template = make_template(tokenizer(), str(tmp_path / "own.jinja"))
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Fine.", "reasoning_content": "Hm."}]
    asked = render_jinja_template([turns[:1]], chat_template=source, add_generation_prompt=True)[0][0]
    whole = render_jinja_template([turns], chat_template=source)[0][0]
    behind = whole.removeprefix(asked).removesuffix("[E]")
    assert behind.startswith("Hm.")
    for answer in (Message("assistant", "Fine.", reasoning_content="Hm."), "<think>\nHm.\n</think>\n\nFine."):
        found = template.render(QUESTION, answer)
        assert (found.prompt, found.response) == (asked, behind)
    spaced = template.render(QUESTION, "<think>  Hm.</think>Fine.")  # the shapes trim a thought, its end stays
    assert spaced.response == "  " + behind
    bare = template.render(QUESTION, "Fine.")
    assert (bare.prompt, bare.response) == (asked, behind.removeprefix("Hm."))
    assert "empty thought" in bare.notes[0]
    call = Message("assistant", "", tool_calls='[{"function": {"name": "weather", "arguments": {}}}]')
    ended = template.render(QUESTION, call, TOOLS).response
    assert ended.startswith(behind.removeprefix("Hm.").removesuffix("Fine."))
    assert "weather" in ended


def test_a_thought_that_the_prompt_has_closed_is_not_closed_again(tmp_path: Path) -> None:
    """DeepSeek-V3.2 answers with `</think>` alone behind the header, and asks with `<think></think>`."""
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}[U]{{ m.content }}"
        "{% else %}[A]</think>{{ m.content }}[E]{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[A]<think></think>{% endif %}"
    )
    (tmp_path / "own.jinja").write_text(source)
    template = make_template(tokenizer(), str(tmp_path / "own.jinja"))
    found = template.render(QUESTION, "Fine.")
    assert (found.prompt, found.response) == ("[U]Hi[A]<think></think>", "Fine.")
    assert "an empty thought" in template.told[0]
