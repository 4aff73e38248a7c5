"""The ids of a text that were put together from those of its words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from align.encoding.words import Words


class Segment(NamedTuple):
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

    def __init__(self, text: str, segments: Sequence[Segment], words: Words) -> None:
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
