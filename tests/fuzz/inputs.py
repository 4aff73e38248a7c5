"""What is made up: files of settings and of data, chat templates, and what a judge sends."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from hypothesis import strategies as st

WORDS = ["prompt", "chosen", "rejected", "messages", "role", "content", "user", "assistant", "completion", "label"]
WORDS += ["scores", "completions", "id", "text", "A", "B", "[[A]]", "m", "M", "[[7]]", "8 7", "stop", "\n\nHuman: hi"]
WORDS += ["\ud800", "\0", "\u2028", "\ufeff", "é", "", " ", "null", "nan", "1e999", "-0", "<|im_end|>", "{{ x }}"]
TEXT = st.one_of(st.sampled_from(WORDS), st.text(max_size=30))
NUMBERS = st.one_of(st.integers(), st.floats(), st.just(10**400), st.booleans(), st.none())
JSON = st.recursive(
    st.one_of(TEXT, NUMBERS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=5)),
    max_leaves=20,
)
TURN = st.fixed_dictionaries(
    {"role": st.one_of(st.sampled_from(["user", "assistant", "system"]), JSON), "content": JSON}
)
ROW = st.one_of(
    JSON,
    st.fixed_dictionaries({"prompt": TEXT, "chosen": TEXT, "rejected": TEXT}),
    st.fixed_dictionaries({"prompt": JSON, "chosen": JSON, "rejected": JSON}),
    st.fixed_dictionaries({"messages": st.one_of(JSON, st.lists(TURN, max_size=4))}),
    st.fixed_dictionaries({"prompt": TEXT, "completions": st.lists(TEXT, max_size=3), "scores": JSON}),
    st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT, "label": JSON}),
)


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def broken(draw: Any, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of a file, some of them cut, doubled or replaced."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=4)) + data[place + draw(st.integers(0, 4)) :]
    return data


JSONL = broken(
    st.lists(st.one_of(ROW.map(_written), TEXT.map(lambda t: t.encode("utf-8", "replace"))), max_size=5).map(b"\n".join)
)


@st.composite
def _csv(draw: Any) -> bytes:
    file = io.StringIO()
    header = draw(st.one_of(st.just(["prompt", "chosen", "rejected"]), st.lists(TEXT, max_size=5)))
    rows = draw(
        st.lists(st.lists(TEXT, min_size=len(header), max_size=len(header) + draw(st.integers(0, 1))), max_size=4)
    )
    cells = [[cell.replace("\0", "") for cell in row] for row in [header, *rows]]
    csv.writer(file).writerows(cells)
    return file.getvalue().encode("utf-8", "replace")


CSV = broken(_csv())
_SCALARS = [
    "1e-4",
    "no",
    "~",
    "*a",
    "&a [b]",
    "!!python/object:os.system x",
    "!x",
    "? [a, b]",
    "<<: *a",
    "{a: 1, a: 2}",
    "'",
]
YAML_LINE = st.one_of(
    st.builds("{}: {}".format, TEXT, st.one_of(TEXT, st.sampled_from(_SCALARS))),
    st.sampled_from([*_SCALARS, "- a", "\tx: 1", "---", "%YAML 9", "judge:", "  class_path: os.system", "repeats: 1"]),
    JSON.map(json.dumps),
)
YAML = broken(st.lists(YAML_LINE, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", "replace")))
_PIECES = [
    "{{ messages }}",
    "{% for m in messages %}",
    "{% endfor %}",
    "{{ m.content }}",
    "{{ m['role'] }}",
    "{% if x %}",
]
_PIECES += [
    "{% endif %}",
    "{{ raise_exception('no') }}",
    "{{ messages[0].content }}",
    "{{ x.__class__ }}",
    "{{",
    "{%",
    "#}",
]
_PIECES += [
    "{{ bos_token }}",
    "{{ eos_token }}",
    "{% generation %}",
    "{% endgeneration %}",
    "{{ 1 / 0 }}",
    "{{ m | tojson }}",
]
_PIECES += [
    "{% include 'x' %}",
    "{{ cycler.__init__ }}",
    "{% set x = messages %}",
    "{% macro a() %}",
    "{{ strftime_now('%Y') }}",
]
TEMPLATE = st.lists(st.one_of(st.sampled_from(_PIECES), TEXT), max_size=8).map("".join)
CHOICE = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"message": st.one_of(JSON, st.fixed_dictionaries({"content": st.one_of(TEXT, JSON)}))},
        optional={"finish_reason": JSON, "logprobs": JSON},
    ),
)
REPLY = broken(
    st.one_of(
        JSON.map(_written),
        st.fixed_dictionaries(
            {"choices": st.one_of(JSON, st.lists(CHOICE, max_size=2))},
            optional={"model": JSON, "usage": JSON, "error": JSON, "refused": JSON},
        ).map(_written),
    )
)
