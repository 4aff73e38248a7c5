"""Ids by words: a tokenizer that never looks across a space is asked for every word once, not for every text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from align.encoding.spelling import Segment, Spelling
from align.errors import ModelError

MAX_WORDS = 300_000
"""Words that are remembered."""
FEW = 2000
"""Texts that are encoded before it repays to find out whether it can be done by words."""


class Words:
    """Encodes texts word by word where that gives what the tokenizer gives; of every batch one text is compared."""

    def __init__(self, tokenizer: Any, *, parses_special: bool) -> None:
        """Read which added tokens cut a text; one that looks at what is beside it leaves the text to the tokenizer."""
        self._tokenizer, self._plain = tokenizer, not parses_special
        tokens = {token.content: (place, token) for place, token in tokenizer.added_tokens_decoder.items()}
        cuts = {text: place for text, (place, t) in tokens.items() if _simple(t) and (parses_special or not t.special)}
        self._added = {text: Segment((), (), [place], len(text)) for text, place in cuts.items()}
        self._cuts, odd = _any_of(cuts), tokens.keys() - cuts
        self._odd = _any_of(odd) if odd else None
        self._asked = 0
        self._forget()

    @cached_property
    def applies(self) -> bool:
        """Tell whether the tokenizer cuts a text at every single space between two other characters."""
        backend = self._tokenizer.backend_tokenizer
        if backend.pre_tokenizer is None or getattr(backend.model, "dropout", None):
            return False
        texts = probes()
        return all(_cut_at_spaces(backend, text) for text in texts) and self._agree(texts)

    def _forget(self) -> None:
        self._known: dict[str, tuple[int, ...]] = {"": ()}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is remembered."""
        return {**vars(self), "_known": {"": ()}}

    def encode(self, texts: list[str]) -> list[Any]:
        """Return the encodings of texts, each with `ids`, `offsets` and `char_to_token`.

        Raises ModelError where the tokenizer gives other ids than its words do.
        """
        self._asked += len(texts)
        if self._asked < FEW or not self.applies:
            return self.whole(texts)
        if len(self._known) > MAX_WORDS:
            self._forget()
        found: list[Any] = self._spelled(texts)
        missing = [place for place, spelling in enumerate(found) if spelling is None]
        for place, encoding in zip(missing, self.whole([texts[p] for p in missing]), strict=True):
            found[place] = encoding
        if not self._agree(texts[:1]):
            raise ModelError(f"the tokenizer does not encode {texts[0][:200]!r} as its words: this is a fault of ours")
        return found

    def whole(self, texts: list[str]) -> list[Any]:
        """Return the encodings the tokenizer gives."""
        if not texts:
            return []
        batch = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=self._plain, verbose=False)
        return list(batch.encodings)

    def _agree(self, texts: list[str]) -> bool:
        """Tell whether both ways give the same."""
        pairs = zip(texts, self._spelled(texts), self.whole(texts), strict=True)
        return all(
            spelling is None
            or (
                spelling.ids == whole.ids
                and all(
                    spelling.char_to_token(c) == whole.char_to_token(c) for c in range(0, len(text), 1 + len(text) // 3)
                )
            )
            for text, spelling, whole in pairs
        )

    def _spelled(self, texts: list[str]) -> list[Spelling | None]:
        cut = [None if self._odd and self._odd.search(text) else self._cuts.split(text) for text in texts]
        plain = {piece for pieces in cut if pieces for piece in pieces if piece} - self._added.keys()
        segments = {**self._added, **self._segments(plain)}
        return [
            None if pieces is None else Spelling(text, [segments[piece] for piece in pieces if piece], self)
            for text, pieces in zip(texts, cut, strict=True)
        ]

    def _segments(self, texts: Iterable[str]) -> dict[str, Segment]:
        """Return texts without added tokens as their words, each remembered or met for the first time."""
        found, rest = dict[str, Segment](), dict[str, list[str]]()
        known = self._known
        for text in texts:
            first, *others = text.split(" ")
            words = [first, *[" " + word for word in others]]
            try:
                found[text] = _segment(words, known)
            except KeyError:
                rest[text] = _joined(words)
        new = list({word for words in rest.values() for word in words} - known.keys())
        known.update((word, tuple(encoding.ids)) for word, encoding in zip(new, self.whole(new), strict=True))
        found |= {text: _segment(words, known) for text, words in rest.items()}
        for word in filter(_open, new):
            del known[word]
        return found

    def token_at(self, segment: Segment, character: int) -> int | None:
        """Return the token of a segment that holds a character, None where the tokenizer says so or it is not known."""
        before, left = 0, character
        for word, part in zip(segment.words, segment.parts, strict=True):
            if left < len(word):
                [encoding] = self.whole([word])
                found: int | None = encoding.char_to_token(left)
                return None if found is None else before + found
            before, left = before + len(part), left - len(word)
        return None


def _segment(words: Sequence[str], known: Mapping[str, tuple[int, ...]]) -> Segment:
    parts = [known[word] for word in words]
    return Segment(words, parts, list(chain.from_iterable(parts)), sum(map(len, words)))


def _joined(words: Sequence[str]) -> list[str]:
    """Join words that have white space beside the space between them."""
    found = [words[0]]
    for word in words[1:]:
        if word == " " or word[1].isspace() or found[-1][-1:].isspace():
            found[-1] += word
        else:
            found.append(word)
    return found


def _open(word: str) -> bool:
    """Tell whether another space beside a word would make it another one, so that it stands for its text alone."""
    return word[-1:].isspace() or (word[:1] == " " and word[1:2].isspace())


def _simple(token: Any) -> bool:
    """Tell whether an added token is found in a text as it stands, whatever is beside it."""
    return not (token.normalized or token.lstrip or token.rstrip or token.single_word)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of the texts, the longest first, that is kept where a text is split by it."""
    return re.compile(f"({'|'.join(map(re.escape, sorted(texts, key=len, reverse=True))) or '(?!)'})")


def _cut_at_spaces(backend: Any, text: str) -> bool:
    """Tell whether words begin at every single space, so that nothing the model knows reaches across one."""
    written = backend.normalizer.normalize_str(text) if backend.normalizer else text
    begin = {start for _, (start, _) in backend.pre_tokenizer.pre_tokenize_str(written)}
    ends = {place for place in range(1, len(written) - 1) if written[place] == " "}
    single = {p for p in ends if not (written[p - 1].isspace() or written[p + 1].isspace())}
    return single <= begin and (bool(single) or " " not in text.strip())


def probes() -> list[str]:
    """Return texts in which characters of every category stand before and after spaces."""
    by_category: dict[str, list[str]] = {}
    for character in map(chr, [*range(0x3000), *range(0x3000, 0x1FAFF, 61)]):
        if (category := unicodedata.category(character)) not in ("Cs", "Cn", "Co"):
            by_category.setdefault(category, []).append(character)
    some = [c for found in by_category.values() for c in (*found[:12], *found[12 :: 1 + len(found) // 24])]
    beside = ["a", "Z", "1", ".", "'", "(", "\n", "é", "世"]
    return [" ".join(f"{c} {b} {c}{b} {b}{c} '{c}" for b in beside) + f" {c}\n {c}  {c}" for c in some]
