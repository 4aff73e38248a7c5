"""How long encoded groups are: what a model's layout makes positions of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Extents(NamedTuple):
    """How long groups are, one entry each; a prompt is as long as under the instruction that makes it longest."""

    tokens: np.ndarray
    """Prompts and responses, every prompt once."""
    prompts: np.ndarray
    """How many prompts it has."""
    candidates: np.ndarray
    """How many responses it has."""
    widest: np.ndarray
    """Longest prompt with all its responses."""
    longest: np.ndarray
    """Longest prompt with one response."""
    longest_responses: np.ndarray
    """Longest response alone."""

    def take(self, indices: np.ndarray) -> Extents:
        """Return those of some groups."""
        return Extents(*(column[indices] for column in self))

    def beside(self, others: Extents) -> Extents:
        """Return what is enough for the groups and for their prompts with the responses of others, one each."""
        more = np.maximum(others.longest_responses - self.longest_responses, 0)
        return self._replace(tokens=self.tokens + more, widest=self.widest + more, longest=self.longest + more)

    @classmethod
    def of(cls, columns: pa.Table) -> Extents:
        """Return those of the groups of a table."""
        sizes = lengths_of(columns["response_ids"])
        owner = np.repeat(np.arange(len(sizes)), sizes)
        responses = lengths_of(pc.list_flatten(columns["response_ids"]))
        own = lengths_of(columns["own_prompt_ids"]) > 0
        shared = np.maximum(lengths_of(columns["prompt_ids"]), _longest_of(columns["instructed_ids"]))
        prompts = shared[owner]  # of every response
        if own.any():
            prompts[own[owner]] = lengths_of(pc.list_flatten(columns["own_prompt_ids"]))
        read = np.where(own, _sums(owner, prompts, len(sizes)), shared)
        tokens = read + _sums(owner, responses, len(sizes))
        longest = _most(owner, prompts + responses, len(sizes))
        return cls(
            tokens=tokens,
            prompts=np.where(own, sizes, 1),
            candidates=sizes,
            widest=np.where(own, longest, tokens),
            longest=longest,
            longest_responses=_most(owner, responses, len(sizes)),
        )


def lengths_of(lists: pa.ChunkedArray) -> np.ndarray:
    """Return the length of each list, without a copy of what is in them."""
    return np.asarray(pc.list_value_length(lists), dtype=np.int64)


def _longest_of(lists: pa.ChunkedArray) -> np.ndarray:
    """Return the length of the longest list in each list of lists, 0 where there is none."""
    sizes, inner = lengths_of(lists), pc.list_flatten(lists)
    if not len(inner):
        return sizes
    return _most(np.repeat(np.arange(len(sizes)), sizes), lengths_of(inner), len(sizes))


def _most(owner: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    found = np.zeros(count, dtype=np.int64)
    np.maximum.at(found, owner, values)
    return found


def _sums(owner: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(owner, weights=values, minlength=count).astype(np.int64)
