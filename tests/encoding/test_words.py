"""Ids by words are the ids the tokenizer gives, on real rows and on odd ones; what it cannot know is asked of it."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from align.encoding import words
from align.encoding.spelling import Spelling
from align.encoding.words import Words
from align.errors import ModelError

ODD = [
    *(
        "",
        " ",
        "  ",
        "\n",
        "a",
        " a",
        "a ",
        "a  b",
        "a \n b",
        "\n\na",
        "a\t b",
        "it's  IT'S 'S",
        "x\x7fy z",
        "a\x00b c",
    ),
    *(
        "é e\u0301 \u212a ſ's",
        "世界 hello 世",
        "👍 ok 👍🏾",
        "١٢ ½ ²",
        "a\xa0b \u2028c",
        "\ufdd0",
        "12 345 6",
        "<|im_end|> a",
    ),
]


@pytest.fixture(autouse=True)
def _compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "FEW", 0)


def equal(tokenizer: Any, coder: Words, texts: list[str], *, plain: bool = False) -> int:
    """Compare both ways, and return for how many texts the tokenizer was not asked."""
    found = coder.encode(texts)
    whole = tokenizer(texts, add_special_tokens=False, split_special_tokens=plain, verbose=False).encodings
    assert [list(one.ids) for one in found] == [list(one.ids) for one in whole]
    for text, one, other in zip(texts, found, whole, strict=True):
        for place in range(0, len(text), 1 + len(text) // 40):
            assert one.char_to_token(place) == other.char_to_token(place), (text, place)
        assert list(one.offsets) == list(other.offsets)
    return sum(isinstance(one, Spelling) for one in found)


@pytest.mark.parametrize("name", ["tokenizer-qwen2", "tokenizer-gpt2"])
def test_real_rows(shared: Path, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(shared / name))
    with gzip.open(shared / "hh-rlhf-harmless-base" / "test.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(40), strict=False)]
    texts = [row["chosen"].replace("\n\nAssistant:", "<|im_end|>\n<|im_start|>assistant\n") for row in rows]
    for plain in (False, True):
        coder = Words(tokenizer, parses_special=not plain)
        marks = plain and name == "tokenizer-qwen2"  # marks that are read as text are left to it
        alone = 0 if marks else len(texts) - 2
        assert equal(tokenizer, coder, texts, plain=plain) >= alone
        assert equal(tokenizer, coder, texts, plain=plain) >= alone  # and again, from what is remembered


@pytest.mark.parametrize("name", ["tokenizer-qwen2", "tokenizer-gpt2"])
def test_odd_texts_and_noise(shared: Path, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(shared / name))
    coder, draw = Words(tokenizer, parses_special=True), random.Random(1)
    noise = ["".join(draw.choices("ab1 \n.'sS  ’é", k=30)) for _ in range(60)]
    for texts in (ODD, noise, [a + " " + b for a, b in zip(ODD, reversed(ODD), strict=True)], noise[::-1]):
        equal(tokenizer, coder, texts)


def test_forgetting_changes_nothing(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MAX_WORDS", 3)
    tokenizer = AutoTokenizer.from_pretrained(str(shared / "tokenizer-gpt2"))
    coder = Words(tokenizer, parses_special=True)
    for _ in range(3):
        assert equal(tokenizer, coder, ["one two three four", "five six"]) == 2


def _tokenizer(pre_tokenizer: Any, *added: AddedToken) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "Ġ"), ("aĠ", "b"), ("a", "b")]
    vocab = {piece: n for n, piece in enumerate([*letters, *(a + b for a, b in merges)])}
    backend = Tokenizer(models.BPE(vocab, merges))
    backend.pre_tokenizer = pre_tokenizer
    made = PreTrainedTokenizerFast(tokenizer_object=backend)
    made.add_tokens(list(added))
    return made


def test_a_tokenizer_whose_words_hold_spaces_is_asked() -> None:
    whole = _tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    pairs = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\w+ \w+|."), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    two = pre_tokenizers.Sequence(  # single spaces begin a word, the first of two ends one
        [
            pre_tokenizers.Split(Regex(r"\S+ (?= )| ?\S+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    for tokenizer in (whole, _tokenizer(pairs), _tokenizer(two)):
        coder = Words(tokenizer, parses_special=True)
        assert not coder.applies
        assert equal(tokenizer, coder, ["a b", "a b a b", "a  b"]) == 0


def test_added_tokens_that_take_spaces_with_them_are_left_to_the_tokenizer() -> None:
    greedy = AddedToken("<x>", lstrip=True, rstrip=True, normalized=False)
    tokenizer = _tokenizer(
        pre_tokenizers.ByteLevel(add_prefix_space=False), greedy, AddedToken("<y>", normalized=False)
    )
    coder = Words(tokenizer, parses_special=True)
    assert equal(tokenizer, coder, ["a <x> b", "a <y> b", "a b<y><y>"]) == 2


def test_an_encoding_that_is_not_the_tokenizers_is_refused(shared: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(shared / "tokenizer-gpt2"))
    coder = Words(tokenizer, parses_special=True)
    equal(tokenizer, coder, ["one two"])
    coder._table._ids[coder._table._ends[coder._table._rows[" two"]]] = 1
    with pytest.raises(ModelError, match="'one two'"):
        coder.encode(["one two"])


def test_white_space_beside_a_space_is_part_of_the_right_word(shared: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(shared / "tokenizer-gpt2"))
    coder = Words(tokenizer, parses_special=True)
    for texts in (["a\n", "x a\n", "\na", " \na", "a  b", "  a"], ["a\n b", "x a\n b", "x \na", "x  a  b", "a \nb"]):
        equal(tokenizer, coder, texts)


def test_the_tokenizer_is_asked_for_a_word_once(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(shared / "tokenizer-gpt2"))
    coder = Words(tokenizer, parses_special=True)
    texts = ["Yes.  I do\n so", " a   b ", "one  I  do"]
    before = [one.ids for one in coder.encode(texts)]
    asked: list[str] = []
    alone = coder._alone
    monkeypatch.setattr(coder, "_alone", lambda words: [asked.extend(words), alone(words)][1])
    assert [one.ids for one in coder.encode(texts)] == before
    assert asked == []
    coder.encode(["one  I  know"])
    assert asked[0] == "  know"  # then where its tokens stand, for the comparison
