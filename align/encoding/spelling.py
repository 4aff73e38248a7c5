"""The ids of a text that were put together from those of its words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.encoding.words import Words


class Spelling:
    """The ids of a text; what only the tokenizer knows is asked of it."""

    def __init__(self, pieces: Sequence[str], ids: Sequence[Sequence[int]], words: Words) -> None:
        """Join the ids of what stands between added tokens, every second piece, and of these."""
        self.ids = list(chain.from_iterable(ids))
        self._pieces, self._parts, self._words = pieces, ids, words

    @property
    def offsets(self) -> Any:
        """Return where each token stands."""
        [whole] = self._words.whole(["".join(self._pieces)])
        return whole.offsets

    def char_to_token(self, character: int) -> int | None:
        """Return the token that holds a character, None for one that no token holds."""
        ends = list(accumulate(map(len, self._pieces)))
        number = bisect_right(ends, character)
        if number == len(ends):
            return None
        piece = self._pieces[number]
        found = 0 if number % 2 else self._words.token_at(piece, character - ends[number] + len(piece))
        return None if found is None else found + sum(map(len, self._parts[:number]))
