"""How a byte-level tokenizer cuts a text into words, read from its own description, and texts to try that on."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import regex

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS = get_args(Form)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How ByteLevel cuts where no other step does."""
KNOWN = (
    r"\x00-\x7e\xa1-\u017e\u0180-\u02af\u0391-\u0481\u2010-\u2027\u2030-\u205e\u20a0-\u20ac\u2190-\u22ff\u2500-\u25ff"
    r"\u3001-\u3003\u3041-\u3094\u30a1-\u30fe\u4e00-\u9fa5\uac00-\ud7a3\uff01-\uff5e"
)
"""Characters that every version of Unicode knows alike; both ways are compared on them."""


def rules(backend: Any) -> tuple[list[Any], Form | None]:
    """Return how a tokenizer cuts texts into words, nothing where it is not known, and the form it puts them in."""
    steps: dict[str, Any] = {"type": "none"}
    if backend.pre_tokenizer:
        steps = json.loads(backend.pre_tokenizer.__getstate__())
    form = json.loads(backend.normalizer.__getstate__())["type"] if backend.normalizer else None
    *cutting, last = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or form not in (None, *FORMS) or _random(backend.model):
        return [], None
    sources = [_source(step) for step in cutting] + ([GPT2] if last["use_regex"] else [])
    if None in sources:
        return [], None
    patterns = [regex.compile(source) for source in sources]
    return ([] if any(pattern.groups for pattern in patterns) else patterns), form


def _source(step: dict[str, Any]) -> str | None:
    """Return the pattern of the words a step makes, None for a step of another kind."""
    if step["type"] == "Digits":
        return r"\p{N}" if step["individual_digits"] else r"\p{N}+"
    if step["type"] != "Split" or step["behavior"] != "Isolated" or step["invert"]:
        return None
    pattern: dict[str, str] = step["pattern"]
    return pattern["Regex"] if "Regex" in pattern else regex.escape(pattern["String"])


def _random(model: Any) -> bool:
    return bool(getattr(model, "dropout", None))


def matches(pattern: Any, text: str) -> list[str]:
    """Return the matches of a pattern and what stands between them."""
    words = pattern.findall(text)
    if len("".join(words)) == len(text):
        return list(words)
    ends = [0, *(end for match in pattern.finditer(text) for end in match.span()), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]


def joined(pieces: Sequence[str]) -> list[str]:
    """Join pieces again at spaces that have white space beside them."""
    found = [pieces[0]]
    for piece in pieces[1:]:
        if not piece or piece[0].isspace() or found[-1][-1:].isspace():
            found[-1] += " " + piece
        else:
            found.append(piece)
    return found


def simple(token: Any) -> bool:
    """Tell whether an added token is found in a text as it stands, whatever is beside it."""
    return not (token.normalized or token.lstrip or token.rstrip or token.single_word)


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of the texts, the longest first, that is kept where a text is split by it."""
    return re.compile(f"({'|'.join(map(re.escape, sorted(texts, key=len, reverse=True))) or '(?!)'})")


def alphabet() -> list[str]:
    """Return the letter that stands for each byte."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in shown else next(others)) for byte in range(256)]


def probes() -> list[str]:
    """Return texts with every known character but for the large alphabets, of which there are some."""
    known = re.compile(f"[{KNOWN}]")
    characters = [c for c in map(chr, [*range(0x2600), *range(0x3001, 0xFF5F, 37)]) if known.match(c)]
    alone = [f"a{c}b {c} {c}{c}1 '{c} {c}' a{c}1{c}\n{c}a{c}" for c in characters]
    alone += [f"{c}  {c}\n {c}1" for c in characters]
    draw = random.Random(0)
    common = "aeinorstEHT''\n.,:;!?019-*’“é世"
    words = [" ".join("".join(draw.choices(common, k=draw.randint(1, 6))) for _ in range(12)) for _ in range(200)]
    mixed = ["".join(draw.choices(common + "    \n\t\r", k=60)) for _ in range(100)]
    return [*(" ".join(alone[i : i + 20]) for i in range(0, len(alone), 20)), *words, *mixed]
