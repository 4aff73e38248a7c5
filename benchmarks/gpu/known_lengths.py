"""Groups of random tokens as long as real ones, served by the loaders of every data module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa

from align.data.batching import Batching
from align.data.chunks import SCHEMA
from align.data.encoded_groups import EncodedGroups, GroupTable
from align.data.loaders import ServingDataModule
from align.records import EncodedGroup, Labels

Kind = Literal["hh", "uf", "lists"]
LENGTHS = Path(__file__).with_name("lengths.json")
SPECIAL = 3
"""Ids below this are special tokens, which no text has."""


def lengths_of(kind: Kind, *, shrink: int = 1) -> list[list[int]]:
    """Return tokens of a prompt and of each of its responses, group by group; `shrink` divides them."""
    rows: list[list[int]] = json.loads(LENGTHS.read_text())[kind]
    return [[n // shrink + 1 for n in row] if shrink > 1 else row for row in rows]


def groups_of(lengths: list[list[int]], vocab_size: int, seed: int = 0) -> list[EncodedGroup]:
    """Return groups of random ids, responses by falling reward."""
    rng = np.random.default_rng(seed)
    ids = lambda n: rng.integers(SPECIAL, vocab_size, n).tolist()  # noqa: E731
    return [
        EncodedGroup(
            id=f"g{i}",
            prompt_ids=ids(prompt),
            response_ids=[ids(n) for n in responses],
            ranks=list(range(len(responses))),
            scores=[[1 - n / len(responses)] for n in range(len(responses))],
            weight=1.0,
            truncated=[False] * len(responses),
        )
        for i, (prompt, *responses) in enumerate(lengths)
    ]


class KnownLengths(ServingDataModule):
    """Serves groups that are in memory, as often as a run asks for them."""

    streaming, stream, training_source, reads_others = False, None, None, False

    def __init__(self, groups: list[EncodedGroup], batching: Batching, needs: Any = None) -> None:
        """Hold the groups; `needs` is the module whose layout decides what a budget takes."""
        super().__init__()
        self.needs, self._told = needs, dict[str, EncodedGroups]()
        self.batching, self.seed, self.fingerprint, self.usual_step = batching, 0, "known lengths", 64
        self.labels, self.worlds = Labels(("reward",)), dict[str, dict[str, Any]]()
        columns: Any = zip(*groups, strict=True)
        arrays = [pa.array(list(values), type=field.type) for values, field in zip(columns, SCHEMA, strict=True)]
        table = datasets.Dataset(pa.Table.from_arrays(arrays, schema=SCHEMA))
        self.groups = {"train": EncodedGroups([GroupTable(table, ("reward",))], [1.0], ("reward",))}
