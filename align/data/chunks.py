"""Examples encoded some hundreds at a time, in this process or in others, a bounded number of them in memory."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import datasets
import pyarrow as pa

from align.encoding.encoder import Dropped, Encoder
from align.encoding.truncation import Truncation
from align.records import EncodedGroup, Example

CHUNK = 512
"""Groups that are encoded together."""
PARALLEL_FROM = 20_000
"""Below this many groups starting processes takes longer than it saves."""
_INTEGERS, _NUMBERS = datasets.List(datasets.Value("int32")), datasets.List(datasets.Value("float32"))
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "prompt_ids": _INTEGERS,
        "response_ids": datasets.List(_INTEGERS),
        "ranks": _INTEGERS,
        "scores": datasets.List(_NUMBERS),
        "weight": datasets.Value("float32"),
        "truncated": datasets.List(datasets.Value("bool")),
        "instructed_ids": datasets.List(_INTEGERS),
        "own_prompt_ids": datasets.List(_INTEGERS),
        "response_weights": datasets.List(_NUMBERS),
        "length": datasets.Value("int32"),
        "notes": datasets.List(datasets.Value("string")),
    }
)
SCHEMA = FEATURES.arrow_schema


class Chunk(NamedTuple):
    """Examples of one split, to be encoded."""

    split: str
    examples: Sequence[Example]
    columns: tuple[str, ...]
    """The attributes that the split has named so far: the columns of its scores."""


class Encoded(NamedTuple):
    """What became of a chunk."""

    split: str
    columns: tuple[str, ...]
    batch: pa.RecordBatch
    dropped: Sequence[Dropped]
    notes: Counter[str]
    lengths: Sequence[int]
    cut: Counter[str]
    """Groups that the limit on prompts, or on responses, has cut where the whole would have fitted."""


def encode_chunk(chunk: Chunk, encoder: Encoder) -> Encoded:
    """Encode a chunk; the scores of each group stand in the columns of the chunk."""
    with _uncollected():
        return _encoded(chunk, encoder.encode(chunk.examples), encoder.truncation)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave cycles alone for a while: looking for some in so many lists would cost a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _encoded(chunk: Chunk, results: Sequence[EncodedGroup | Dropped], limits: Truncation) -> Encoded:
    groups, dropped = list[EncodedGroup](), list[Dropped]()
    for example, result in zip(chunk.examples, results, strict=True):
        if isinstance(result, Dropped):
            dropped.append(result)
        elif example.attributes == chunk.columns and example.scores:
            groups.append(result)
        else:
            groups.append(result._replace(scores=aligned(result.scores, example.attributes, chunk.columns)))
    columns = zip(*groups, strict=True) if groups else [[] for _ in SCHEMA]
    arrays = [pa.array(list(values), type=field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    notes = Counter(note for group in groups for note in group.notes)
    batch = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
    cut = Counter(_cut_by(group, limits) for group in groups) if limits.cuts_short else Counter[str]()
    return Encoded(chunk.split, chunk.columns, batch, dropped, notes, [group.length for group in groups], cut)


def _cut_by(group: EncodedGroup, limits: Truncation) -> str:
    """Return which limit has cut a group, nothing where none did or it is too long as a whole."""
    if limits.max_response and any(group.truncated):
        return "response"
    prompts = group.own_prompt_ids or [group.prompt_ids] * len(group.response_ids)
    kept = max(len(p) + len(r) for p, r in zip(prompts, group.response_ids, strict=True))
    return "prompt" if kept < group.length <= limits.max_total else ""


def aligned(scores: Sequence[Sequence[float]], attributes: Sequence[str], columns: Sequence[str]) -> list[list[float]]:
    """Return score rows in other columns, NaN where a row has no such score."""
    places = [attributes.index(name) if name in attributes else None for name in columns]
    return [[row[p] if p is not None and row else math.nan for p in places] for row in scores]


def encode_chunks(chunks: Iterable[Chunk], encoder: Encoder, num_proc: int | None) -> Iterator[Encoded]:
    """Encode chunks in their order, in `num_proc` processes, or as many as there are cores once the data is large."""
    processes = num_proc or min(os.cpu_count() or 1, 16)
    pool: ProcessPoolExecutor | None = None
    pending: deque[Future[Encoded]] = deque()
    count = 0
    try:
        for chunk in chunks:
            count += len(chunk.examples)
            if pool is None and processes > 1 and (num_proc or count > PARALLEL_FROM):
                pool = _pool(encoder, processes)
            if pool is None:
                yield encode_chunk(chunk, encoder)
                continue
            pending.append(pool.submit(_encode, chunk))
            if len(pending) > 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


_ENCODERS: list[Encoder] = []
"""The encoder of a process that encodes for another."""


def _pool(encoder: Encoder, processes: int) -> ProcessPoolExecutor:
    known = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(known)
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_serve, initargs=(encoder,))


def _serve(encoder: Encoder) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    _ENCODERS[:] = [encoder]


def _encode(chunk: Chunk) -> Encoded:
    return encode_chunk(chunk, _ENCODERS[0])
