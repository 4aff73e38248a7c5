"""The ids of a text that were put together from those of its words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from align.encoding.words import Words


class Segment(NamedTuple):
    """What stands between two added tokens, or one of these, which has no words."""

    words: Sequence[str]
    """What stands between spaces, with the space before it."""
    parts: Sequence[tuple[int, ...]]
    """The ids of each word."""
    ids: Sequence[int]
    length: int


class Spelling:
    """The ids of a text; what only the tokenizer knows is asked of it."""

    def __init__(self, text: str, segments: Sequence[Segment], words: Words) -> None:
        self.ids = list(chain.from_iterable([segment.ids for segment in segments]))
        self._text, self._segments, self._words = text, segments, words

    @property
    def offsets(self) -> Any:
        """Return where each token stands."""
        [whole] = self._words.whole([self._text])
        return whole.offsets

    def char_to_token(self, character: int) -> int | None:
        """Return the token that holds a character, None for one that no token holds."""
        before, start = 0, character
        for segment in self._segments:
            if start < segment.length:
                if not segment.words:
                    return before
                found = self._words.token_at(segment, start)
                return None if found is None else before + found
            before, start = before + len(segment.ids), start - segment.length
        return None
