"""Encoded groups on disk: tokenised once, in parallel, under a key that holds everything that decides the ids."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from align.data.groups import Table
from align.data.source import Report
from align.encoding.encoder import Dropped, Encoder
from align.errors import DataError
from align.records import EncodedGroup, Example, Message

FORMAT = 6
"""Raise when the meaning of a cached column changes."""
CUT_SHARE = 0.05
"""More groups than this share have to be cut before it is a warning."""
PARALLEL_FROM = 20_000
"""Below this many groups starting processes takes longer than it saves."""


def load_cached(folder: Path, key: str) -> tuple[list[Table], Report] | None:
    """Return the groups cached under a key (none for a split without rows), or None when they have yet to be made."""
    data, note = folder / f"{key}.arrow", folder / f"{key}.json"
    if not note.exists():
        return None
    stored = json.loads(note.read_text())
    attributes = tuple(stored.pop("attributes"))
    counters = {name: Counter(stored[name]) for name in ("dropped", "layouts")}
    report = Report(**{**stored, **counters})
    return ([Table(datasets.Dataset.from_file(str(data)), attributes)] if report.kept else []), report


def encode(
    examples: list[Example], encoder: Encoder, report: Report, *, folder: Path, key: str, num_proc: int | None
) -> Table:
    """Encode examples, cache the result and its report, and return the groups kept. Raises DataError when none is."""
    attributes = labelled_attributes(examples)
    rows = datasets.Dataset.from_list([_plain(e, attributes) for e in examples])
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
    kept = encoded.select(keep).remove_columns("dropped")
    report.warnings = warnings_on(kept, encoder.truncation.max_total)
    _write(kept, folder, key)
    write_note(report, folder, key, attributes)
    return Table(datasets.Dataset.from_file(str(folder / f"{key}.arrow")), attributes)


def warnings_on(rows: datasets.Dataset, limit: int) -> list[str]:
    """Return what a user should know of encoded groups: what they lack, and how many are cut to fit the limit."""
    counts = Counter(note for notes in rows["notes"] for note in notes)
    notes = [f"{count} of {len(rows)} groups {note}" for note, count in counts.most_common()]
    whole = np.asarray(rows["length"])
    share = float((whole > limit).mean())
    if share > CUT_SHARE:
        needed = int(np.quantile(whole, 1 - CUT_SHARE, method="higher"))
        notes.append(
            f"{share:.1%} of the groups are longer than {limit} tokens and are cut: data.encoding.truncation.max_total "
            f"{needed} leaves at most {CUT_SHARE:.0%} so, where the model's context has room"
        )
    return notes


def labelled_attributes(examples: Iterable[Example]) -> tuple[str, ...]:
    """Return the attributes that have a label in some example, in the order in which examples name them."""
    named: dict[str, bool] = {}
    for example in examples:
        for place, name in enumerate(example.attributes):
            named[name] = named.get(name, False) or any(not math.isnan(row[place]) for row in example.scores)
    return tuple(name for name, known in named.items() if known)


def write_note(report: Report, folder: Path, key: str, attributes: tuple[str, ...] = ()) -> None:
    """Write a report; it comes last and makes the cache entry valid, also that of a split without rows."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{key}.{os.getpid()}.part"
    part.write_text(json.dumps({"attributes": attributes, **vars(report)}))
    os.replace(part, folder / f"{key}.json")


def _write(kept: datasets.Dataset, folder: Path, key: str) -> None:
    """Write the data under a temporary name and rename it."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{key}.{os.getpid()}.part"
    with datasets.arrow_writer.ArrowWriter(path=str(part), features=kept.features) as writer:
        writer.write_table(kept.with_format("arrow")[:])
        writer.finalize()
    os.replace(part, folder / f"{key}.arrow")


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
        "own_prompt_ids": datasets.List(datasets.List(datasets.Value("int32"))),
        "response_weights": datasets.List(datasets.List(datasets.Value("float32"))),
        "length": datasets.Value("int32"),
        "notes": datasets.List(datasets.Value("string")),
        "dropped": datasets.Value("string"),
    }
)


def _plain(example: Example, attributes: tuple[str, ...]) -> dict[str, Any]:
    """Return an example as a row whose scores have one column per attribute."""
    places = [example.attributes.index(name) if name in example.attributes else None for name in attributes]
    scores = example.scores or [()] * len(example.responses)
    return {
        "id": example.id,
        "dialogues": json.dumps([example.messages, example.answers, example.contexts]),
        "tools": example.tools,
        "whole": example.whole,
        "responses": list(example.responses),
        "scores": [[row[p] if p is not None and row else math.nan for p in places] for row in scores],
        "attributes": list(attributes),
        "ranking": [list(g) for g in example.ranking],
        "weight": example.weight,
    }


def _example(row: dict[str, Any]) -> Example:
    messages, answers, contexts = json.loads(row["dialogues"])
    return Example(
        row["id"],
        tuple(Message(*m) for m in messages),
        tuple(row["responses"]),
        attributes=tuple(row["attributes"]),
        scores=tuple(tuple(s) for s in row["scores"]),
        ranking=tuple(tuple(g) for g in row["ranking"]),
        weight=row["weight"],
        answers=tuple(Message(*m) for m in answers),
        contexts=tuple(tuple(Message(*m) for m in context) for context in contexts),
        tools=row["tools"],
        whole=row["whole"],
    )


def _encode_rows(rows: dict[str, list[Any]], encoder: Encoder) -> dict[str, list[Any]]:
    examples = [_example(dict(zip(rows, values, strict=True))) for values in zip(*rows.values(), strict=True)]
    columns: dict[str, list[Any]] = {name: [] for name in _FEATURES}
    for result in encoder.encode(examples):
        group = EncodedGroup(result.id, [], [], [], [], 0.0, []) if isinstance(result, Dropped) else result
        reason = result.reason if isinstance(result, Dropped) else ""
        for name, value in zip(columns, (*group, reason), strict=True):
            columns[name].append(value)
    return columns
