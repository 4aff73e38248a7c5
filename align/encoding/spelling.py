"""The ids of a text that were put together from those of its words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
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
        start, first = sum(map(len, self._pieces)), len(self.ids)
        if character >= start:
            return None
        for number in range(len(self._pieces) - 1, -1, -1):  # what is asked for stands near the end
            start, first = start - len(self._pieces[number]), first - len(self._parts[number])
            if start <= character:
                break
        found = 0 if number % 2 else self._words.token_at(self._pieces[number], character - start)
        return None if found is None else found + first
