"""A dialogue filled into what the template wrote for another of its shape reads as the template would write it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from align.encoding.program import Program
from align.encoding.rendering import RowRefused
from align.encoding.skeletons import Shape, Skeletons
from align.records import Message

FOLDER = Path(__file__).parent / "templates"
TEXTS = [
    "Hi",
    " x \n",
    "<think>t</think>\n\nb",
    "a</think>b",
    "",
    "  ",
    "{0} %s",
    "<tool_response>z</tool_response>",
    "\ufdd20\ufdd3",
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
LOOP = "{% for m in messages %}%s{% endfor %}"


def rendered(program: Program, messages: list[Message], prompt: bool) -> str:
    try:
        return program.render(messages, add_generation_prompt=prompt)
    except RowRefused as refusal:
        return f"refused: {refusal}"


def dialogues() -> list[tuple[list[Message], bool]]:
    found = [([Message("user", a), Message("assistant", b)], False) for a, b in product(TEXTS, TEXTS)]
    found += [([*turns, Message("user", TEXTS[n % 7])], True) for n, (turns, _) in enumerate(found)]
    return found + [([Message("system", TEXTS[n % 5]), *turns], prompt) for n, (turns, prompt) in enumerate(found[::3])]


def compare(source: str, monkeypatch: pytest.MonkeyPatch) -> float:
    """Compare with a program that renders every dialogue, and return the share of dialogues that is known at the end."""
    known = Program(source, "t", TOKENS)
    found = [rendered(known, *dialogue) for dialogue in dialogues()]
    with monkeypatch.context() as patch:
        patch.setattr(Skeletons, "recall", lambda *_: None)
        patch.setattr(Skeletons, "learn", lambda *_: None)
        plain = Program(source, "t", TOKENS)
        assert found == [rendered(plain, *dialogue) for dialogue in dialogues()]
    shapes = [(shape, messages) for messages, prompt in dialogues() if (shape := Shape.of(messages, prompt))]
    return sum(known._skeletons.recall(shape, messages) is not None for shape, messages in shapes) / len(shapes)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jinja")), ids=lambda path: path.stem)
def test_the_families(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare(path.read_text(), monkeypatch) > 0.2


@pytest.mark.parametrize(
    ("body", "share"),
    [
        ("{{ m.role }}: {{ m.content }}", 1.0),
        ("{{ m['content'] | trim }}{{ '|' ~ m.content.lstrip('\n') }}", 1.0),
        ("{% if m.content %}{{ 'a' + m.content + 'b' }}{% endif %}", 0.9),
        ("{% if 'think' in m.content and not m.content.startswith('<') %}T{% endif %}{{ m.content }}", 0.8),
        ("{% set c = 'x' + m.content %}{{ c | trim }}", 0.0),
        ("{% set c %}{{ m.content }}{% endset %}{{ c[:2] }}", 0.0),
        ("{{ m.content | upper }}", 0.0),
        ("{{ m.content | length }}", 0.0),
        ("{{ m | tojson }}", 0.0),
        ("{{ m }}", 0.0),
        ("{{ messages | map(attribute='content') | join('-') }}", 0.0),
        ("{{ '%s' % m.content }}{{ '{}'.format(m.content) }}", 0.0),
        ("{{ m.content.split('</think>')[-1] }}", 0.0),
        ("{{ m.content in 'Hi there' }}", 0.0),
        ("{{ m.content is lower }}", 0.0),
        ("{{ m.content == messages[0].content }}", 0.0),
        ("{{ m.content < 'b' }}", 0.0),
        ("{% for c in m.content %}{{ c }}.{% endfor %}", 0.0),
        ("{% set d = {m.content: 1} %}{{ d }}", 0.0),
        ("{{ 'a'.replace('a', m.content) }}", 0.0),
        ("{% set l = [m.content] %}{{ l | join }}{{ l | sort | first }}", 0.0),
        ("{% macro w(x) %}[{{ x }}]{% endmacro %}{{ w(m.content) }}", 1.0),
        ("{% macro w(x) %}[{{ x }}]{% endmacro %}{{ w(m.content) | length }}", 0.0),
    ],
)
def test_only_what_is_done_to_every_text_alike_is_repeated(
    body: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compare(LOOP.replace("%s", body), monkeypatch) >= share
    if share == 0:
        assert compare(LOOP.replace("%s", body), monkeypatch) == 0


def test_turns_with_more_than_text_are_rendered() -> None:
    assert Shape.of([Message("assistant", "a", reasoning_content="t")], True) is None
    assert Shape.of([Message("user", "x" * 100_001)], True) is None
    assert Shape.of([Message("assistant", "a", weight=0.0)], False) == Shape(("assistant",), False)
