"""Data that are read as they are needed: what this asks of the other settings, and the stream that comes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from align.data.encoded import FORMAT
from align.data.encoding import EncodingConfig
from align.data.gathering import GatheredGroups, refuse_none
from align.data.order import DistributedShard
from align.data.preparing import Found, fill
from align.data.shards import shards_of
from align.data.source import Source
from align.data.splits import Division, Splits
from align.data.stream import Stream, StreamSettings
from align.data.stream_loader import StreamLoader, StreamProgress
from align.data.stream_steps import StepSettings, StreamSteps
from align.data.views import View
from align.encoding.encoder import Encoder
from align.errors import ConfigError

if TYPE_CHECKING:
    from align.data.data_module import PreferenceDataModule
    from align.data.loaders import ServingDataModule

WINDOW = 10_000
"""Rows that are shuffled together where nothing else is said."""


def check_window(asked: int | None, *, streaming: bool) -> None:
    """Raise ConfigError for a number of rows that is none, or has no effect."""
    if asked is not None and not streaming:
        raise ConfigError(
            f"data.batching.shuffle_window {asked} has no effect without data.streaming, where all rows are shuffled: "
            "leave it out, or set data.streaming true"
        )
    if asked is not None and asked < 0:
        raise ConfigError(f"data.batching.shuffle_window must not be negative, got {asked}")


def check_streaming(data: PreferenceDataModule) -> None:
    """Raise ConfigError for a setting of a data module that cannot hold for rows that are read as they are needed."""
    source, splits, workers = data.sources[0], data.splits, data.batching.num_workers
    beside = "would have to read all rows first: leave it out, and give a folder with a file"
    faults = {
        "data.sources": len(data.sources) > 1 and "is several datasets, a stream reads one: put their shards together",
        "weight": source.weight != 1 and f"{source.weight} draws from all rows: leave it out",
        "data.max_samples": source.max_samples is not None
        and f"{source.max_samples} chooses among all rows: leave it out, trainer.max_steps ends a run",
        "data.splits.val_fraction": splits.val_fraction not in (0, Splits.val_fraction)
        and f"{splits.val_fraction} {beside} of its own for validation",
        "data.splits.test_fraction": splits.test_fraction > 0
        and f"{splits.test_fraction} {beside} of its own for testing",
        "data.splits.folds": splits.folds is not None and f"{splits.folds} {beside} of its own for testing",
        "data.batching.num_workers": workers > 1
        and f"{workers}: one process reads a stream in its order, take 1, which reads ahead, or 0",
        "data.encoding.cache_dir": data.encoding.cache_dir != EncodingConfig.cache_dir
        and f"{data.encoding.cache_dir} has no effect, nothing is kept: leave it out",
        "data.encoding.num_proc": workers == 1
        and (data.encoding.num_proc or 1) > 1
        and f"{data.encoding.num_proc} has no place inside a loader process: set data.batching.num_workers 0",
        type(source).__name__: (not source.streams and "makes its rows itself: set data.streaming false")
        or (not source.by_row and "makes an example of rows anywhere in the data: set data.streaming false"),
    }
    for name, fault in faults.items():
        if fault:
            raise ConfigError(f"data.streaming true: {name} {fault}")


def check_trainer(trainer: Any, stage: str, *, streaming: bool) -> None:
    """Raise ConfigError for a setting of the Trainer that cannot hold for an epoch of unknown length."""
    if not streaming or stage != "fit":
        return
    shares = {name: getattr(trainer, name) for name in ("val_check_interval", "limit_train_batches")}
    asked = {name: value for name, value in shares.items() if isinstance(value, float) and value != 1}
    if trainer.overfit_batches:
        asked["overfit_batches"] = trainer.overfit_batches
    for name, value in asked.items():
        raise ConfigError(
            f"data.streaming true: trainer.{name} {value} is a part of the training data, and nobody knows how much "
            "that is: give a number of steps, or leave it out"
        )


def open_stream(data: PreferenceDataModule, source: Source, view: View) -> tuple[Stream, Found, str]:
    """Return a source as a stream, its first rows and the splits it ships, in memory, and a hash of its content."""
    encoder, asked = data.encoder, data.batching.shuffle_window
    assert encoder is not None
    settings = StreamSettings(
        window=WINDOW if asked is None else asked,
        seed=data.run_seed,
        num_proc=data.encoding.num_proc,
        refuse_new_labels=data.chosen_attributes is None,
    )
    source.stream_hub()
    shards = shards_of(source, "train")
    whole = replace(data.splits, val_fraction=0.0, test_fraction=0.0)
    division = Division(source, whole, train=False)
    found = _beside(division, view, encoder, settings.num_proc)
    stream = Stream(source, shards, division, view, encoder, settings)
    table, report = stream.sample()
    identities = [shard.identity for shard in shards]
    parts = (FORMAT, source.fingerprint_of(repr(identities)), view.fingerprint, whole, encoder.fingerprint)
    return stream, {"train": ([table], report), **found}, hashlib.sha256(repr(parts).encode()).hexdigest()


def _beside(division: Division, view: View, encoder: Encoder, num_proc: int | None) -> Found:
    """Return the splits that are not streamed."""
    files = {split: GatheredGroups(encoder.truncation) for split in division.reports}
    viewing = fill(files, division, view, encoder, num_proc)
    found: Found = {}
    for split, report in division.reports.items():
        files[split].count(report)
        if viewing.examples[split]:
            refuse_none(report, split)
        found[split] = ([files[split].table()] if report.kept else [], report)
    return found


def stream_loader(data: ServingDataModule, stream: Stream) -> StreamLoader:
    """Return the steps of a data module's stream."""
    share = DistributedShard.of(data.trainer)
    settings = StepSettings(data.batching, data.step_groups, share, data.reads_others, data.attributes, data.row_layout)
    progress = None if data.trainer is None else StreamProgress(data.trainer)
    return StreamLoader(StreamSteps(stream, settings), data.fingerprint, progress)


def streamed_told(stream: Stream, step: int, splits: Collection[str]) -> list[str]:
    """Return what a run says of its stream before the first step."""
    size = sum(shard.identity.size for shard in stream.shards) / 1e6
    shards = f"{len(stream.shards)} {'shard' if len(stream.shards) == 1 else 'shards'}"
    window = stream.settings.window
    order = f"shuffled in windows of {window:,} rows" if window else "in their order"
    told = [f"data: streamed from {shards}{f', {size:,.1f} MB' if size else ''}, {order}; a step is {step} groups"]
    if "val" not in splits:
        told.append("data: nothing is held out of a stream, and no validation split is beside it")
    return told
