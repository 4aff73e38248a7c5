"""Ids by words: a tokenizer that never looks across a space is asked for every word once, not for every text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import Any

from align.encoding.spelling import Spelling
from align.encoding.word_table import WordTable
from align.errors import ModelError

MAX_WORDS = 300_000
"""Words that are remembered."""
FEW = 1000
"""Texts that are encoded before it repays to find out whether it can be done by words."""


class Words:
    """Encodes texts word by word where that gives what the tokenizer gives; of every batch one text is compared."""

    def __init__(self, tokenizer: Any, *, parses_special: bool) -> None:
        """Read which added tokens cut a text; one that looks at what is beside it leaves the text to the tokenizer."""
        self._tokenizer, self._plain = tokenizer, not parses_special
        tokens = {token.content: (place, token) for place, token in tokenizer.added_tokens_decoder.items()}
        cuts = {text: place for text, (place, t) in tokens.items() if _simple(t) and (parses_special or not t.special)}
        self._added = {text: [place] for text, place in cuts.items()}
        self._cuts, odd = _any_of(cuts), tokens.keys() - cuts
        self._odd = _any_of(odd) if odd else None
        self._asked = 0
        self._forget()

    @cached_property
    def applies(self) -> bool:
        """Tell whether the tokenizer cuts a text wherever a word begins."""
        backend = self._tokenizer.backend_tokenizer
        if backend.pre_tokenizer is None or getattr(backend.model, "dropout", None):
            return False
        texts = probes()
        return all(_cut_at_spaces(backend, text) for text in texts) and self._agree(texts[::4])

    def _forget(self) -> None:
        self._table = WordTable(self._ids_alone)
        self._places: dict[tuple[str, int], int | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is remembered."""
        return {name: value for name, value in vars(self).items() if name not in ("_table", "_places")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without anything remembered."""
        vars(self).update(state)
        self._forget()

    def encode(self, texts: list[str]) -> list[Any]:
        """Return the encodings of texts, each with `ids`, `offsets` and `char_to_token`.

        Raises ModelError where the tokenizer gives other ids than its words do.
        """
        self._asked += len(texts)
        if self._asked < FEW or not self.applies:
            return self.whole(texts)
        if len(self._table) + len(self._places) > MAX_WORDS:
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

    def _ids_alone(self, words: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._alone(words)]

    def _alone(self, words: list[str]) -> list[Any]:
        """Return the encodings of words, without what transformers makes of each."""
        backend = self._tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = self._plain
        return list(backend.encode_batch(words, add_special_tokens=False))

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
        plain = {piece for pieces in cut if pieces for piece in pieces} - self._added.keys()
        ids = {**self._added, **self._table.ids(plain)}
        return [None if pieces is None else Spelling(pieces, [ids[piece] for piece in pieces], self) for pieces in cut]

    def token_at(self, piece: str, character: int) -> int | None:
        """Return the token of a text without added tokens that holds a character, None for one that no token holds."""
        starts, end = [0], len(piece)
        for match in _WORD.finditer(piece):
            if match.start() > character:
                end = match.start()
                break
            starts.append(match.start())
        known = piece[starts[-1] : end], character - starts[-1]
        if known not in self._places:
            self._places[known] = self._alone([known[0]])[0].char_to_token(known[1])
        found = self._places[known]
        return None if found is None else found + sum(self._table.length(piece[a:b]) for a, b in pairwise(starts))


_WORD = re.compile(r" (?<=\S )")
"""Where a word begins."""


def _simple(token: Any) -> bool:
    """Tell whether an added token is found in a text as it stands, whatever is beside it."""
    return not (token.normalized or token.lstrip or token.rstrip or token.single_word)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of the texts, the longest first, that is kept where a text is split by it."""
    return re.compile(f"({'|'.join(map(re.escape, sorted(texts, key=len, reverse=True))) or '(?!)'})")


def _cut_at_spaces(backend: Any, text: str) -> bool:
    """Tell whether the tokenizer begins something at every word, so that nothing the model knows reaches across."""
    written = backend.normalizer.normalize_str(text) if backend.normalizer else text
    begin = {start for _, (start, _) in backend.pre_tokenizer.pre_tokenize_str(written)}
    words = {match.start() for match in _WORD.finditer(written)}
    return words <= begin and (bool(words) or " " not in text.strip())


def probes() -> list[str]:
    """Return texts in which characters of every category stand before and after spaces."""
    by_category: dict[str, list[str]] = {}
    for character in map(chr, [*range(0x3000), *range(0x3000, 0x1FAFF, 61)]):
        if (category := unicodedata.category(character)) not in ("Cs", "Cn", "Co"):
            by_category.setdefault(category, []).append(character)
    some = [c for found in by_category.values() for c in (*found[:12], *found[12 :: 1 + len(found) // 24])]
    beside = ["a", "Z", "1", ".", "'", "(", "\n", "é", "世"]
    return [" ".join(f"{c} {b} {c}{b} {b}{c} '{c}" for b in beside) + f" {c}\n {c}  {c} \n{c}   {c}" for c in some]
