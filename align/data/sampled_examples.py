"""A fixed number of examples out of any number, chosen by a hash, with no more of them in memory than twice that."""

from __future__ import annotations

import hashlib

from align.data.row_validation import prompt_id
from align.records import Example


class SampledExamples:
    """Keeps the `limit` examples whose prompt and id hash lowest."""

    def __init__(self, limit: int) -> None:
        self._limit, self._offered = limit, 0
        self._kept: list[tuple[bytes, int, Example]] = []

    def offer(self, example: Example) -> None:
        """Take an example in for now."""
        self._offered += 1
        key = hashlib.sha256(f"{prompt_id(example.messages)} {example.id}".encode()).digest()
        self._kept.append((key, self._offered, example))
        if len(self._kept) > 2 * self._limit:
            self._cut()

    @property
    def beyond(self) -> int:
        """Return how many are left out."""
        return max(self._offered - self._limit, 0)

    def examples(self) -> list[Example]:
        """Return those chosen, in the order in which they were offered."""
        self._cut()
        return [example for _, _, example in sorted(self._kept, key=lambda kept: kept[1])]

    def _cut(self) -> None:
        self._kept.sort(key=lambda kept: kept[:2])
        del self._kept[self._limit :]
