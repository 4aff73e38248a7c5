"""The ids of words that were met before, and those of texts cut into such words, many texts at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

WHITE = np.array([chr(point).isspace() for point in range(0x3002)])
"""Which code points are white space; no higher one is."""


class WordTable:
    """Gives the ids of texts by those of their words, which are asked for once.

    A word begins at a space behind another character, and holds whatever white space follows.
    """

    def __init__(self, encode: Callable[[list[str]], list[list[int]]]) -> None:
        """Start without words; `encode` gives the ids of each text in a list."""
        self._encode = encode
        self._rows: dict[str, int] = {}
        self._ends = np.zeros(1, np.int64)
        self._ids = np.zeros(0, np.int64)
        self._shared = np.zeros(0, object)

    def __len__(self) -> int:
        """Return how many words are known."""
        return len(self._rows)

    def ids(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Return the ids of each text."""
        found: dict[str, list[int]] = {text: [] for text in texts}
        if filled := [text for text in found if text]:
            words, first = _words(filled)
            flat, ends = self._joined(words)
            cuts = [0, *ends[first[1:] - 1].tolist(), len(flat)]
            found.update((text, flat[a:b]) for text, (a, b) in zip(filled, pairwise(cuts), strict=True))
        return found

    def length(self, word: str) -> int:
        """Return how many ids a word has."""
        [row] = self._known([word])
        return int(self._ends[row + 1] - self._ends[row])

    def _joined(self, words: pa.StringArray) -> tuple[list[int], np.ndarray]:
        """Return the ids of words in a row, and where those of each end."""
        coded = words.dictionary_encode()
        rows = self._known(coded.dictionary.to_pylist())[coded.indices.to_numpy()]
        starts, lengths = self._ends[rows], self._ends[rows + 1] - self._ends[rows]
        ends = np.cumsum(lengths)
        places = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])
        return self._shared[self._ids[places]].tolist(), ends

    def _known(self, words: Sequence[str]) -> np.ndarray:
        """Return the rows of words; those of new ones are added."""
        new = [word for word in words if word not in self._rows]
        if new:
            ids = self._encode(new)
            self._rows.update(zip(new, range(len(self._rows), len(self._rows) + len(new)), strict=True))
            self._ends = np.concatenate([self._ends, self._ends[-1] + np.cumsum([len(one) for one in ids])])
            self._ids = np.concatenate([self._ids, np.fromiter((i for one in ids for i in one), np.int64)])
            if (size := int(self._ids.max(initial=-1)) + 1) > len(self._shared):
                self._shared = np.arange(size).astype(object)  # the same objects always: fewer of them in memory
        return np.fromiter(map(self._rows.__getitem__, words), np.int64, len(words))


def _words(texts: Sequence[str]) -> tuple[pa.StringArray, np.ndarray]:
    """Return the words of texts that are not empty, and the first word of each."""
    whole = "".join(texts)
    points = np.frombuffer(whole.encode("utf-32-le"), np.uint32)
    heads = np.cumsum([0, *map(len, texts[:-1])])
    begins = points == ord(" ")
    begins[1:] &= ~WHITE[np.minimum(points[:-1], len(WHITE) - 1)]
    begins[heads] = True
    starts = np.flatnonzero(begins)
    widths = np.cumsum(1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF), dtype=np.int32)
    offsets = np.concatenate([[0], widths[starts[1:] - 1], widths[-1:]]).astype(np.int32)
    words = pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(whole.encode()))
    return words, np.searchsorted(starts, heads)
