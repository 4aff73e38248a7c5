"""Encoded groups on disk: tokenised once, in parallel, under a key that holds everything that decides the ids."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from torch.utils.data import Dataset

from align.data.source import Report
from align.encoding.encoder import Dropped, Encoder
from align.errors import DataError
from align.records import EncodedGroup, Example, Message

FORMAT = 2
"""Raise when the meaning of a cached column changes."""
PARALLEL_FROM = 20_000
"""Below this many groups starting processes takes longer than it saves."""


class EncodedGroups(Dataset[list[EncodedGroup]]):
    """Encoded groups by index, and the lengths by which batches are made."""

    def __init__(self, parts: Sequence[datasets.Dataset], repeats: Sequence[float]) -> None:
        """Join the groups of several sources; `repeats` says how often those of each appear in an epoch."""
        self.table = table = datasets.concatenate_datasets(list(parts))
        self._parts = list(zip(map(len, parts), repeats, strict=True))
        self.weights = np.asarray(table.with_format("numpy")["weight"][:], dtype=np.float64)
        columns = table.with_format("arrow")[:]
        responses = columns["response_ids"].combine_chunks()
        owner = np.repeat(np.arange(len(table)), responses.value_lengths())
        lengths = responses.flatten().value_lengths()
        self.prompt_tokens = np.asarray(columns["prompt_ids"].combine_chunks().value_lengths(), dtype=np.int64)
        self.response_tokens = np.bincount(owner, weights=lengths, minlength=len(table)).astype(np.int64)

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

    def __getitem__(self, indices: Sequence[int]) -> list[EncodedGroup]:
        columns = self.table[list(indices)]
        return [EncodedGroup(*row) for row in zip(*(columns[name] for name in EncodedGroup._fields), strict=True)]


def load_cached(folder: Path, key: str) -> tuple[list[datasets.Dataset], Report] | None:
    """Return the groups cached under a key (none for a split without rows), or None when they have yet to be made."""
    data, note = folder / f"{key}.arrow", folder / f"{key}.json"
    if not note.exists():
        return None
    stored = json.loads(note.read_text())
    report = Report(**{**stored, "dropped": Counter(stored["dropped"])})
    return ([datasets.Dataset.from_file(str(data))] if report.kept else []), report


def encode(
    examples: list[Example], encoder: Encoder, report: Report, *, folder: Path, key: str, num_proc: int | None
) -> datasets.Dataset:
    """Encode examples, cache the result and its report, and return the groups kept. Raises DataError when none is."""
    rows = datasets.Dataset.from_list([_plain(e) for e in examples])
    processes = num_proc or (min(os.cpu_count() or 1, 16) if len(examples) >= PARALLEL_FROM else 1)
    encoded = rows.map(
        _encode_rows,
        batched=True,
        batch_size=256,
        fn_kwargs={"encoder": encoder},
        remove_columns=rows.column_names,
        features=_FEATURES,
        num_proc=processes if processes > 1 else None,
        new_fingerprint=key,
        keep_in_memory=True,
        desc="tokenising",
    )
    for row, reason in zip(encoded["id"], encoded["dropped"], strict=True):
        if reason:
            report.drop(reason, row)
    keep = np.flatnonzero(np.asarray(encoded["dropped"]) == "")
    report.kept = len(keep)
    if not len(keep):
        raise DataError(f"no row is left to train on: {report}")
    _write(encoded.select(keep).remove_columns("dropped"), report, folder, key)
    return datasets.Dataset.from_file(str(folder / f"{key}.arrow"))


def write_note(report: Report, folder: Path, key: str) -> None:
    """Write a report; it comes last and makes the cache entry valid, also that of a split without rows."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{key}.{os.getpid()}.part"
    part.write_text(json.dumps(vars(report)))
    os.replace(part, folder / f"{key}.json")


def _write(kept: datasets.Dataset, report: Report, folder: Path, key: str) -> None:
    """Write the data under a temporary name and rename it, then its note."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{key}.{os.getpid()}.part"
    with datasets.arrow_writer.ArrowWriter(path=str(part), features=kept.features) as writer:
        writer.write_table(kept.with_format("arrow")[:])
        writer.finalize()
    os.replace(part, folder / f"{key}.arrow")
    write_note(report, folder, key)


_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "prompt_ids": datasets.List(datasets.Value("int32")),
        "response_ids": datasets.List(datasets.List(datasets.Value("int32"))),
        "ranks": datasets.List(datasets.Value("int32")),
        "scores": datasets.List(datasets.List(datasets.Value("float32"))),
        "weight": datasets.Value("float32"),
        "truncated": datasets.List(datasets.Value("bool")),
        "instructed_ids": datasets.List(datasets.List(datasets.Value("int32"))),
        "dropped": datasets.Value("string"),
    }
)


def _plain(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "roles": [m.role for m in example.messages],
        "contents": [m.content for m in example.messages],
        "responses": list(example.responses),
        "scores": [list(s) for s in example.scores],
        "ranking": [list(g) for g in example.ranking],
        "weight": example.weight,
    }


def _example(row: dict[str, Any]) -> Example:
    return Example(
        row["id"],
        tuple(Message(r, c) for r, c in zip(row["roles"], row["contents"], strict=True)),
        tuple(row["responses"]),
        scores=tuple(tuple(s) for s in row["scores"]),
        ranking=tuple(tuple(g) for g in row["ranking"]),
        weight=row["weight"],
    )


def _encode_rows(rows: dict[str, list[Any]], encoder: Encoder) -> dict[str, list[Any]]:
    examples = [_example(dict(zip(rows, values, strict=True))) for values in zip(*rows.values(), strict=True)]
    columns: dict[str, list[Any]] = {name: [] for name in _FEATURES}
    for result in encoder.encode(examples):
        row = (result.id, [], [], [], [], 0.0, [], [], result.reason) if isinstance(result, Dropped) else (*result, "")
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    return columns
