"""Encoded groups of several sources as one dataset, their labels in common columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset

from align.data.extents import Extents, lengths_of
from align.records import EncodedGroup
from align.records.group import GroupCounts


class GroupTable(NamedTuple):
    """The encoded groups of one split of one source."""

    rows: datasets.Dataset
    attributes: tuple[str, ...] = ()
    """Names of the columns of its scores."""


class EncodedGroups(Dataset[list[EncodedGroup]]):
    """Encoded groups by index, and the lengths by which batches are made."""

    def __init__(self, parts: Sequence[GroupTable], repeats: Sequence[float], attributes: Sequence[str] = ()) -> None:
        """Join the groups of several sources.

        Args:
            parts: The groups of each source.
            repeats: How often those of each source appear in an epoch.
            attributes: The columns of the scores; a source without one of them has NaN there.
        """
        self.table = table = datasets.concatenate_datasets([part.rows for part in parts])
        self.attributes = tuple(attributes)
        sizes = [len(part.rows) for part in parts]
        self._parts = list(zip(sizes, repeats, strict=True))
        self._ends = np.cumsum(sizes)
        self._columns = [_places(part.attributes, self.attributes) for part in parts]
        columns = table.with_format("arrow")[:]
        self.weights = np.asarray(columns["weight"], dtype=np.float64)
        self.sizes = lengths_of(columns["response_ids"])
        owner = np.repeat(np.arange(len(table)), self.sizes)
        lengths = lengths_of(pc.list_flatten(columns["response_ids"]))
        self.extents = Extents.of(columns)
        self.longest_responses = self.extents.longest_responses
        self.prompt_tokens = _prompt_tokens(columns)
        self.response_tokens = np.bincount(owner, weights=lengths, minlength=len(table)).astype(np.int64)
        self.scored_tokens = _scored_tokens(columns, self.response_tokens)
        labels = [self._matrix(part, n) for n, part in enumerate(parts)]
        self.labels = np.concatenate(labels)
        """`[response, attribute]`, NaN where a response has no label."""
        known = (~np.isnan(self.labels)).sum(1)
        self._labels = np.bincount(owner, weights=known, minlength=len(table)).astype(np.int64)
        self._labelled = np.bincount(owner, weights=known > 0, minlength=len(table)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def num_drawn(self) -> int:
        """Return how many groups an epoch has."""
        return len(self.draw(np.random.default_rng(0)))

    def draw(self, rng: np.random.Generator | None) -> np.ndarray:
        """Return the groups of one epoch: every one as often as its source says, a fraction by chance.

        Without an `rng` every group once.
        """
        drawn, first = [], 0
        for length, repeats in self._parts:
            own = np.arange(first, first + length)
            whole, part = (1, 0.0) if rng is None else divmod(repeats, 1)
            drawn += [own] * int(whole)
            if rng is not None and part:
                drawn.append(np.sort(rng.permutation(own)[: round(part * length)]))
            first += length
        return np.concatenate(drawn)

    def counts(self, index: int) -> GroupCounts:
        """Return what a group adds to the totals of its step."""
        tokens = float(self.scored_tokens[index]), int(self.prompt_tokens[index])
        return GroupCounts(float(self.weights[index]), *tokens, int(self._labels[index]), int(self._labelled[index]))

    def __getitem__(self, indices: Sequence[int]) -> list[EncodedGroup]:
        columns = self.table[list(indices)]
        rows = zip(*(columns[name] for name in EncodedGroup._fields), strict=True)
        return [self._aligned(EncodedGroup(*row), int(i)) for row, i in zip(rows, indices, strict=True)]

    def _aligned(self, group: EncodedGroup, index: int) -> EncodedGroup:
        """Put the labels of a group into the common columns."""
        places = self._columns[int(np.searchsorted(self._ends, index, side="right"))]
        scores = [[float("nan") if p is None else row[p] for p in places] for row in group.scores]
        return group._replace(scores=scores)

    def _matrix(self, part: GroupTable, number: int) -> np.ndarray:
        rows = pc.list_flatten(part.rows.with_format("arrow")[:]["scores"])
        own = np.asarray(pc.list_flatten(rows), dtype=np.float64).reshape(len(rows), len(part.attributes))
        missing = np.full(len(rows), np.nan)
        columns = [missing if p is None else own[:, p] for p in self._columns[number]]
        return np.stack(columns, 1) if columns else np.empty((len(rows), 0))


def _prompt_tokens(columns: pa.Table) -> np.ndarray:
    """Return the length of each group's prompt, or of all its prompts where its responses have their own."""
    shared, own = lengths_of(columns["prompt_ids"]), columns["own_prompt_ids"]
    prompts = pc.list_flatten(own)
    if not len(prompts):
        return shared
    owner = np.repeat(np.arange(len(shared)), lengths_of(own))
    sums = np.bincount(owner, weights=lengths_of(prompts), minlength=len(shared)).astype(np.int64)
    return np.where(sums > 0, sums, shared)


def _scored_tokens(columns: pa.Table, lengths: np.ndarray) -> np.ndarray:
    """Return the weights of each group's response tokens, summed."""
    rows = columns["response_weights"]
    tokens = pc.list_flatten(rows)
    if not len(tokens):
        return lengths
    owner = np.repeat(np.repeat(np.arange(len(lengths)), lengths_of(rows)), lengths_of(tokens))
    weights = np.asarray(pc.list_flatten(tokens), dtype=np.float64)
    sums = np.bincount(owner, weights=weights, minlength=len(lengths))
    return np.where(lengths_of(rows) > 0, sums, lengths)


def _places(own: Sequence[str], attributes: Sequence[str]) -> list[int | None]:
    """Return where in a source's columns each common attribute is."""
    return [own.index(name) if name in own else None for name in attributes]
