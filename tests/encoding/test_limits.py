"""Templates that never end, write without end, or cannot be read: one line that names the file, soon."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from align.encoding.jinja import TemplateSandbox
from align.encoding.metering import Overrun
from align.encoding.templates import make_template
from align.errors import ConfigError, ModelError
from align.models.small import CHATML
from tests.tiny import tiny_tokenizer

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = i %}{% endfor %}{% endfor %}"


def render(source: str) -> str:
    sandbox = TemplateSandbox(datetime(2026, 1, 2))
    compiled = sandbox.metered(source)
    sandbox.start()
    return str(compiled.render(messages=[{"role": "user", "content": "Hi"}]))


@pytest.mark.injection
@pytest.mark.parametrize(
    "source",
    [
        ENDLESS,
        "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n else 'x' }}{% endmacro %}{{ f(60) }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
        "{% for i in range(99999) %}{{ messages[0].content * 100000 }}{% endfor %}",
        "{{ messages[0].content * 10**10 }}",
        "{{ messages[0].content.center(10**10) }}",
        "{{ messages[0].content | indent(10**10, true) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%*d' % (10**10, 1) }}",
        "{{ '{:10000000000d}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10**10) }}",
        "{{ (messages[0].content * 1000000).replace('H', messages[0].content * 1000000) }}",
        "{{ (messages[0].content * 1000000) | replace('H', messages[0].content * 1000000) }}",
    ],
)
def test_a_template_without_end_is_stopped(source: str) -> None:
    start = time.process_time()
    with pytest.raises(Overrun):
        render(source)
    assert time.process_time() - start < 8


def test_what_real_templates_do_is_left_alone() -> None:
    assert render("{{ 1700000000 | string ~ {'a': 1700000000} | tojson }}") == '1700000000{"a": 1700000000}'
    assert (
        render("{{ '**%s**' % 'x' }}{{ '{:.1f}'.format(1.25) }}{{ strftime_now('%d %b %Y') }}") == "**x**1.202 Jan 2026"
    )
    assert render("{% for m in messages %}{% if loop.last %}{{ m.content }}{% break %}{% endif %}{% endfor %}") == "Hi"


@pytest.mark.injection
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{% for m in %}", "line 1: syntax error, cannot render"),
        ("{{ raise_exception('no') }}", "chat template refused: no"),
        ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
        (ENDLESS, "chat template does not end: it takes more than 1,000,000 steps or 5 seconds"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "it calls itself without end"),
    ],
)
def test_one_line_names_the_file(tmp_path: Path, source: str, says: str) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(source)
    with pytest.raises(ModelError) as caught:
        make_template(tiny_tokenizer(), str(path))
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_settings_that_nothing_reads_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(CHATML + "{{ enable_thinking }}")
    with pytest.raises(ConfigError, match=r"chat_template_kwargs\.enable_thinkin: .*did you mean 'enable_thinking'"):
        make_template(tiny_tokenizer(), str(path), {"enable_thinkin": False})
    with pytest.raises(ConfigError, match="plain transcript reads none"):
        make_template(tiny_tokenizer(), "plain", {"enable_thinking": False})
    with pytest.raises(ConfigError, match="expected auto, chat, plain or a Jinja file"):
        make_template(tiny_tokenizer(), "chta")


def test_a_template_without_a_generation_prompt_gets_one_in_the_folder_too(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\n"
    )
    own = tiny_tokenizer()
    made = make_template(own, str(path))
    turns = [{"role": "user", "content": "Hi"}]
    own.chat_template = made.jinja
    text = own.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert "has no generation prompt" in made.told[0]


def test_a_folder_trained_on_transcripts_is_asked_in_transcripts() -> None:
    own = tiny_tokenizer(CHATML)
    plain = make_template(own, "plain")
    own.chat_template = plain.jinja
    assert make_template(own).stop == plain.stop
