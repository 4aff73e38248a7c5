"""Ids by words: a byte-level tokenizer cuts a text into words and looks at each alone, so every word is met once."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, NamedTuple

import regex

MAX_WORDS = 300_000
"""Words that are remembered."""
FEW = 2000
"""Texts that are encoded before it repays to compare both ways."""
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How ByteLevel cuts where no other step does."""
KNOWN = (
    r"\x00-\x7e\xa1-\u017e\u0180-\u02af\u0391-\u0481\u2010-\u2027\u2030-\u205e\u20a0-\u20ac\u2190-\u22ff\u2500-\u25ff"
    r"\u3001-\u3003\u3041-\u3094\u30a1-\u30fe\u4e00-\u9fa5\uac00-\ud7a3\uff01-\uff5e"
)
"""Characters that every version of Unicode knows alike; both ways are compared on them."""
_OTHER = re.compile(f"[^{KNOWN}]")


class _Segment(NamedTuple):
    """What stands between two special tokens, or one of these."""

    pieces: Sequence[str]
    """Pieces of the text with a space between them."""
    parts: Sequence[tuple[int, ...]]
    """The ids of each piece, with those of the space before it."""
    ids: Sequence[int]
    length: int
    special: bool = False


class Spelling:
    """The ids of a text; what only the tokenizer knows is asked of it."""

    def __init__(self, text: str, segments: Sequence[_Segment], words: Words) -> None:
        self.ids = list(chain.from_iterable([segment.ids for segment in segments]))
        self._text, self._segments, self._words, self._known = text, segments, words, None

    @property
    def offsets(self) -> Any:
        """Return where each token stands."""
        return self._whole.offsets

    def char_to_token(self, character: int) -> int | None:
        """Return the token that holds a character, None for one that no token holds."""
        before, start = 0, character
        for segment in self._segments:
            if start < segment.length:
                found = self._words.token_at(segment, start)
                return before + found if found is not None else self._asked(character)
            before, start = before + len(segment.ids), start - segment.length
        return self._asked(character)

    def _asked(self, character: int) -> int | None:
        found: int | None = self._whole.char_to_token(character)
        return found

    @property
    def _whole(self) -> Any:
        if self._known is None:
            [self._known] = self._words.whole([self._text])
        return self._known


class Words:
    """Encodes texts word by word where that gives what the tokenizer gives; it was compared on texts of all kinds."""

    def __init__(self, tokenizer: Any, *, parses_special: bool) -> None:
        """Read how the tokenizer cuts texts; where that is not known, and for rare characters, it is asked itself."""
        self._tokenizer, self._plain = tokenizer, not parses_special
        self._patterns, self._form = _rules(tokenizer.backend_tokenizer)
        self._forget()
        tokens = {token.content: (place, token) for place, token in tokenizer.added_tokens_decoder.items()}
        cuts = {text: place for text, (place, t) in tokens.items() if _simple(t) and (parses_special or not t.special)}
        self._added = {
            text: _Segment([text], [(place,)], [place], len(text), special=True) for text, place in cuts.items()
        }
        self._cuts, odd = _any_of(cuts), tokens.keys() - cuts
        self._odd = _any_of(odd) if odd else None
        self._bytes = _alphabet()
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
        if max(map(len, (self._known, self._bare, self._spaced, self._words))) > MAX_WORDS:
            self._forget()
        seen: dict[str, _Segment | None] = {}
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

    def _spelled(self, text: str, seen: dict[str, _Segment | None]) -> Spelling | None:
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

    def token_at(self, segment: _Segment, character: int) -> int | None:
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

    def _within(self, segment: _Segment, piece: str) -> Sequence[tuple[tuple[int, ...], int]]:
        if segment.special:
            return ()
        if piece not in self._words:
            self._words[piece] = [(self._ids(word), len(word)) for word in self._cut(piece)]
        return self._words[piece]

    def _segment(self, text: str) -> _Segment | None:
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
            pieces = _joined(pieces)
            first, *rest = pieces
            parts = [self._bare.get(first) or self._piece(self._bare, "", first)]
            parts += [spaced.get(piece) or self._piece(spaced, " ", piece) for piece in rest]
        return _Segment(pieces, parts, list(chain.from_iterable(parts)), len(text))

    def _piece(self, known: dict[str, tuple[int, ...]], lead: str, piece: str) -> tuple[int, ...]:
        """Return the ids of a piece; one at the end of a text may have white space there, where others have none."""
        ids = tuple(i for word in self._cut(lead + piece) for i in self._ids(word))
        if not (piece[-1:].isspace() or (lead + piece)[:2].isspace()):
            known[piece] = ids
        return ids

    def _cut(self, text: str) -> list[str]:
        words = [text]
        for pattern in self._patterns:
            words = [part for word in words for part in _matches(pattern, word)]
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
        probes = _probes()
        return all(
            (spelling := self._spelled(text, {})) is not None
            and spelling.ids == whole.ids
            and all(
                spelling.char_to_token(c) == whole.char_to_token(c) for c in range(0, len(text), 1 + len(text) // 3)
            )
            for text, whole in zip(probes, self.whole(probes), strict=True)
        )


def _rules(backend: Any) -> tuple[list[Any], str | None]:
    """Return how a tokenizer cuts texts into words, nothing where it is not known, and the form it puts them in."""
    steps = json.loads(backend.pre_tokenizer.__getstate__()) if backend.pre_tokenizer else {"type": "none"}
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


def _matches(pattern: Any, text: str) -> list[str]:
    """Return the matches of a pattern and what stands between them."""
    words = pattern.findall(text)
    if len("".join(words)) == len(text):
        return list(words)
    ends = [0, *(end for match in pattern.finditer(text) for end in match.span()), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]


def _joined(pieces: Sequence[str]) -> list[str]:
    """Join pieces again at spaces that have white space beside them."""
    joined = [pieces[0]]
    for piece in pieces[1:]:
        if not piece or piece[0].isspace() or joined[-1][-1:].isspace():
            joined[-1] += " " + piece
        else:
            joined.append(piece)
    return joined


def _simple(token: Any) -> bool:
    """Tell whether an added token is found in a text as it stands, whatever is beside it."""
    return not (token.normalized or token.lstrip or token.rstrip or token.single_word)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile(f"({'|'.join(map(re.escape, sorted(texts, key=len, reverse=True))) or '(?!)'})")


def _alphabet() -> list[str]:
    """Return the letter that stands for each byte."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in shown else next(others)) for byte in range(256)]


def _probes() -> list[str]:
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
