"""A sealed round on disk: examples as JSONL, written beside its place, synced and renamed, then known by its hash."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.errors import StoreError, shorten
from align.files import atomic_file
from align.records import Example, Message


def write_round(path: Path, examples: Sequence[Example]) -> str:
    """Write the examples of a round whole or not at all; return the SHA-256 of the file."""
    content = "".join(json.dumps(_row(e), ensure_ascii=True, allow_nan=False) + "\n" for e in examples).encode()
    try:
        with atomic_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise StoreError(
            f"round file {path} not written: {shorten(error, 120)}: make room, then give the same command again; "
            "samples and rewards are kept"
        ) from error
    return hashlib.sha256(content).hexdigest()


def read_round(path: Path, sha256: str) -> list[Example]:
    """Return the examples of a sealed round.

    Raises StoreError for a missing or changed file: what a run was trained on is never made anew.
    """
    content = path.read_bytes() if path.exists() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        state = f"has SHA-256 {found[:12]}, sealed with {sha256[:12]}" if content else "is missing"
        raise StoreError(f"round file {path} {state}: put the sealed file back, or begin a new run")
    return [_example(json.loads(line)) for line in content.decode().splitlines()]


def _row(example: Example) -> dict[str, Any]:
    row = {name: value for name, value in vars(example).items() if value not in ((), "")}
    row["messages"] = [m.as_turn() for m in example.messages]
    if example.answers:
        row["answers"] = [m.as_turn() for m in example.answers]
    if example.contexts:
        row["contexts"] = [[m.as_turn() for m in context] for context in example.contexts]
    if example.scores:
        row["scores"] = [[None if math.isnan(v) else v for v in scores] for scores in example.scores]
    if example.engine_logprobs:
        row["engine_logprobs"] = [[None if math.isnan(v) else v for v in told] for told in example.engine_logprobs]
    return row


def _example(row: dict[str, Any]) -> Example:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    values["messages"] = tuple(map(Message.of, row["messages"]))
    values["answers"] = tuple(map(Message.of, row.get("answers", ())))
    values["contexts"] = tuple(tuple(map(Message.of, context)) for context in row.get("contexts", ()))
    values["ranking"] = tuple(tuple(group) for group in row.get("ranking", ()))
    values["response_ids"] = tuple(map(tuple, row.get("response_ids", ())))
    scores = row.get("scores", ())
    values["scores"] = _numbers(scores)
    values["engine_logprobs"] = _numbers(row.get("engine_logprobs", ()))
    return Example(**values)


def _numbers(rows: Sequence[Sequence[float | None]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(math.nan if v is None else v for v in row) for row in rows)
