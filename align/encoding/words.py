"""Ids by words: a byte-level tokenizer cuts a text into words and looks at each alone, so every word is met once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from align.encoding.cutting import KNOWN, alphabet, any_of, joined, matches, probes, rules, simple
from align.encoding.spelling import Segment, Spelling

MAX_WORDS = 300_000
"""Words that are remembered."""
FEW = 2000
"""Texts that are encoded before it repays to compare both ways."""
_OTHER = re.compile(f"[^{KNOWN}]")


class Words:
    """Encodes texts word by word where that gives what the tokenizer gives; it was compared on texts of all kinds."""

    def __init__(self, tokenizer: Any, *, parses_special: bool) -> None:
        """Read how the tokenizer cuts texts; where that is not known, and for rare characters, it is asked itself."""
        self._tokenizer, self._plain = tokenizer, not parses_special
        self._patterns, self._form = rules(tokenizer.backend_tokenizer)
        self._forget()
        tokens = {token.content: (place, token) for place, token in tokenizer.added_tokens_decoder.items()}
        cuts = {text: place for text, (place, t) in tokens.items() if simple(t) and (parses_special or not t.special)}
        self._added = {
            text: Segment([text], [(place,)], [place], len(text), special=True) for text, place in cuts.items()
        }
        self._cuts, odd = any_of(cuts), tokens.keys() - cuts
        self._odd = any_of(odd) if odd else None
        self._bytes = alphabet()
        self._asked = 0

    @cached_property
    def applies(self) -> bool:
        """Tell whether texts are encoded by words."""
        return bool(self._patterns) and self._agrees()

    def _forget(self) -> None:
        self._known: dict[str, tuple[int, ...]] = {}
        self._bare: dict[str, tuple[int, ...]] = {"": ()}
        self._spaced: dict[str, tuple[int, ...]] = {}
        self._words: dict[str, list[tuple[tuple[int, ...], int]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is remembered."""
        return {**vars(self), "_known": {}, "_bare": {"": ()}, "_spaced": {}, "_words": {}}

    def encode(self, texts: list[str]) -> list[Any]:
        """Return the encodings of texts, each with `ids`, `offsets` and `char_to_token`."""
        self._asked += len(texts)
        if self._asked < FEW or not self.applies:
            return self.whole(texts)
        if max(len(self._known), len(self._bare), len(self._spaced), len(self._words)) > MAX_WORDS:
            self._forget()
        seen: dict[str, Segment | None] = {}
        found: list[Any] = [self._spelled(text, seen) for text in texts]
        missing = [place for place, spelling in enumerate(found) if spelling is None]
        for place, encoding in zip(missing, self.whole([texts[p] for p in missing]), strict=True):
            found[place] = encoding
        return found

    def whole(self, texts: list[str]) -> list[Any]:
        """Return the encodings the tokenizer gives."""
        if not texts:
            return []
        batch = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=self._plain, verbose=False)
        return list(batch.encodings)

    def _spelled(self, text: str, seen: dict[str, Segment | None]) -> Spelling | None:
        if self._odd and self._odd.search(text):
            return None
        segments = []
        for piece in self._cuts.split(text):
            if not piece:
                continue
            segment = self._added.get(piece) or (seen[piece] if piece in seen else self._segment(piece))
            seen[piece] = segment
            if segment is None:
                return None
            segments.append(segment)
        return Spelling(text, segments, self)

    def token_at(self, segment: Segment, character: int) -> int | None:
        """Return the token that begins with a character, where that is certain."""
        before, left, lead = 0, character, ""
        for piece, part in zip(segment.pieces, segment.parts, strict=True):
            if left >= len(lead) + len(piece):
                before, left, lead = before + len(part), left - len(lead) - len(piece), " "
                continue
            for ids, length in [(part, 0)] if not left else self._within(segment, lead + piece):
                if left <= 0:
                    return before if left == 0 and ids and self._solid(ids[0]) else None
                before, left = before + len(ids), left - length
            break
        return None

    def _within(self, segment: Segment, piece: str) -> Sequence[tuple[tuple[int, ...], int]]:
        if segment.special:
            return ()
        if piece not in self._words:
            self._words[piece] = [(self._ids(word), len(word)) for word in self._cut(piece)]
        return self._words[piece]

    def _segment(self, text: str) -> Segment | None:
        """Return the ids of a text, None where a character is not among those that were compared.

        A word holds a space only where it begins, or among others of its kind. So a text is cut before every space
        with something else on both sides, and only pieces that were not met before are cut into words.
        """
        form = self._form
        if not text.isascii() and (_OTHER.search(text) or (form and not unicodedata.is_normalized(form, text))):
            return None
        pieces = text.split(" ")
        spaced = self._spaced
        try:
            parts = [self._bare[pieces[0]], *[spaced[piece] for piece in pieces[1:]]]
        except KeyError:
            pieces = joined(pieces)
            first, *rest = pieces
            parts = [self._bare.get(first) or self._piece(self._bare, "", first)]
            parts += [spaced.get(piece) or self._piece(spaced, " ", piece) for piece in rest]
        return Segment(pieces, parts, list(chain.from_iterable(parts)), len(text))

    def _piece(self, known: dict[str, tuple[int, ...]], lead: str, piece: str) -> tuple[int, ...]:
        """Return the ids of a piece; one at the end of a text may have white space there, where others have none."""
        ids = tuple(i for word in self._cut(lead + piece) for i in self._ids(word))
        if not (piece[-1:].isspace() or (lead + piece)[:2].isspace()):
            known[piece] = ids
        return ids

    def _cut(self, text: str) -> list[str]:
        words = [text]
        for pattern in self._patterns:
            words = [part for word in words for part in matches(pattern, word)]
        return words

    def _ids(self, word: str) -> tuple[int, ...]:
        if word not in self._known:
            spelt = "".join([self._bytes[byte] for byte in word.encode()])
            self._known[word] = tuple(token.id for token in self._tokenizer.backend_tokenizer.model.tokenize(spelt))
        return self._known[word]

    def _solid(self, token: int) -> bool:
        """Tell whether a token is more than spaces, which a tokenizer may leave out of its offsets."""
        return bool(self._tokenizer.convert_ids_to_tokens(token).strip(self._bytes[32]))

    def _agrees(self) -> bool:
        """Tell whether both ways give the same on texts of all kinds."""
        texts = probes()
        return all(
            (spelling := self._spelled(text, {})) is not None
            and spelling.ids == whole.ids
            and all(
                spelling.char_to_token(c) == whole.char_to_token(c) for c in range(0, len(text), 1 + len(text) // 3)
            )
            for text, whole in zip(texts, self.whole(texts), strict=True)
        )
