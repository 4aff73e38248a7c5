"""The loaders of a data module: its training steps, and passes over its other splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Protocol

import lightning as L

from align.data.batching import Batching
from align.data.encoded_groups import EncodedGroups
from align.data.loader import BatchLoader, check_same
from align.data.needs import Needs
from align.data.order import DistributedShard, HeldOutSteps, StepOrder
from align.data.pass_order import Limit, PassOrder
from align.data.positions import Positions, oversized
from align.data.shards import check_shards
from align.data.steps import steps_told, tell_lines
from align.data.stream import Stream
from align.data.stream_loader import StreamLoader
from align.data.streaming import stream_loader, streamed_told
from align.errors import ConfigError
from align.records import CandidateBatch, Labels, RowLayout, Step


class TrainingSource(Protocol):
    """What makes training data while a run goes on, such as rounds; a callback names it to the data module."""

    def loader(self) -> BatchLoader:
        """Return the batches of the current epoch."""


class ServingDataModule(L.LightningDataModule):
    """Hands groups over that a subclass makes."""

    batching: Batching
    seed: int | None
    labels: Labels
    groups: dict[str, EncodedGroups]
    """The groups of each split; where the training rows are streamed, the first of them."""
    stream: Stream | None
    streaming: bool
    fingerprint: str
    usual_step: int
    reads_others: bool
    reads_steps: bool
    needs: Needs | None
    """The module, once the data are connected to it."""
    _told: dict[str, EncodedGroups]
    training_source: TrainingSource | None
    """Where the run makes its own training data."""

    @property
    def run_seed(self) -> int:
        """Return the seed of the data, or the run's."""
        return int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed

    @property
    def attributes(self) -> tuple[str, ...]:
        """Return the names of the columns of the batches' scores."""
        return self.labels.attributes

    @property
    def step_groups(self) -> int:
        """Return the groups of an optimiser step."""
        return self.batching.groups or self.usual_step

    def steps_told(self) -> list[str]:
        """Return what a run says of its steps before the first."""
        step, train = self.step_groups, self.groups["train"]
        return streamed_told(self.stream, step, self.groups) if self.stream else steps_told(train, step)

    def refuse_stream(self, what: str) -> None:
        """Raise ConfigError where training rows are streamed, and something needs all of them."""
        if self.streaming:
            raise ConfigError(f"data.streaming true: {what} needs all rows at once: leave it out, or stream nothing")

    @property
    def row_layout(self) -> RowLayout:
        """Return how the method's model lays batches out."""
        return RowLayout() if self.needs is None else self.needs.row_layout()

    def tell_oversized(self, split: str, groups: EncodedGroups) -> None:
        """Say once of some groups how many exceed the budget by themselves."""
        if self._told.get(split) is not groups:
            self._told[split] = groups
            told = oversized(Positions.of(groups.extents, self.row_layout), self.batching.tokens)
            tell_lines([f"{split}: {told}"] if told else [])

    def state_dict(self) -> dict[str, Any]:
        """Return what the data are: at the end of an epoch Lightning asks no loader of a resumed run."""
        if self.stream:
            return {"shards": [list(shard.identity) for shard in self.stream.shards]}
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise ResumeError where training goes on with other data."""
        if self.trainer is None or not self.trainer.training:
            return
        if "shards" in state or self.stream:
            check_shards(state.get("shards"), None if self.stream is None else self.stream.shards)
        else:
            check_same(state, self.state_dict())

    def on_before_batch_transfer(self, batch: Step | CandidateBatch, dataloader_idx: int) -> Step | CandidateBatch:
        """Let the method look at labels while they are on the CPU."""
        check = getattr(self.trainer and self.trainer.lightning_module, "check_labels", None)
        if check is not None:
            for part in batch if isinstance(batch, Step) else (batch,):
                check(part)
        return batch

    def all_batches(self) -> Iterator[CandidateBatch]:
        """Yield every training and validation group once, this rank's share of them; not of a stream."""
        self.refuse_stream("what is computed of all rows before training, such as a reference of kind Cached,")
        for split in ("train", "val"):
            if split in self.groups:
                yield from self.batches_of(split)

    def batches_of(self, split: str, limit: Limit = 1.0) -> BatchLoader:
        """Return this rank's share of the batches of a split, in order; not of the training rows of a stream.

        Under a limit, those that are computed come first.
        """
        if split == "train":
            self.refuse_stream("a pass over the training split in order")
        self.tell_oversized(split, self.groups[split])
        return self.pass_over(self.groups[split], self.fingerprint, limit)

    def pass_over(self, groups: EncodedGroups, fingerprint: str, limit: Limit = 1.0) -> BatchLoader:
        """Return this rank's share of the batches of some groups, in order."""
        share = DistributedShard.of(self.trainer)
        reading: dict[str, Any] = {"others": self.reads_others, "layout": self.row_layout}
        order = PassOrder(groups, self.batching, share=share, limit=limit, **reading)
        return BatchLoader(order, fingerprint)

    def steps_of(self, groups: EncodedGroups, fingerprint: str) -> BatchLoader:
        """Return this rank's part of the steps over some groups, in an order by (seed, epoch)."""
        share, seed = DistributedShard.of(self.trainer), self.run_seed
        self.tell_oversized("train", groups)
        reading: dict[str, Any] = {"others": self.reads_others, "layout": self.row_layout}
        order = StepOrder(groups, self.batching, seed, self.step_groups, share=share, **reading)
        order.repeats = bool(self.trainer and self.trainer.overfit_batches)  # type: ignore[attr-defined]
        return BatchLoader(order, fingerprint, seed)

    def held_out(self, split: str) -> BatchLoader:
        """Return this rank's share of a split to compute losses on: in steps, where a loss reads the whole of one."""
        if not self.reads_steps:
            limit = getattr(self.trainer, f"limit_{split}_batches", 1.0)  # without a trainer all are computed
            return self.batches_of(split, limit)
        groups, share = self.groups[split], DistributedShard.of(self.trainer)
        self.tell_oversized(split, groups)
        reading: dict[str, Any] = {"others": self.reads_others, "layout": self.row_layout}
        order = HeldOutSteps(groups, self.batching, self.run_seed, self.step_groups, share=share, **reading)
        return BatchLoader(order, self.fingerprint)

    def train_dataloader(self) -> BatchLoader | StreamLoader:
        """Return the steps of training."""
        if self.stream:
            return stream_loader(self, self.stream)
        if self.training_source is not None:
            return self.training_source.loader()
        return self.steps_of(self.groups["train"], self.fingerprint)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Return the validation batches, none when no data is set apart."""
        return self.held_out("val") if "val" in self.groups else []

    def test_dataloader(self) -> BatchLoader:
        """Return the test batches."""
        if "test" not in self.groups:
            raise ConfigError("the data has no test split: set data.splits.test_fraction, or use data that ships one")
        return self.held_out("test")

    def predict_dataloader(self) -> BatchLoader:
        """Return the validation batches, or the training batches where there are none."""
        return self.batches_of("val" if "val" in self.groups else "train")
