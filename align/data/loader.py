"""The loader: the steps of an epoch in their order, collated, and where a resumed run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from align.data.batching import derive
from align.data.encoded_groups import EncodedGroups
from align.data.order import BatchPlan, Order, StepOrder
from align.data.shards import check_shards
from align.errors import ResumeError
from align.records import CandidateBatch, RowLayout, Step
from align.transfer import each, pinned


class Collated(Dataset[Any]):
    """Fetches and collates what a plan names, in a worker where there are workers."""

    def __init__(self, groups: EncodedGroups) -> None:
        self.groups = groups

    def __getitem__(self, plan: BatchPlan | list[BatchPlan]) -> Any:
        return [self._batch(part) for part in plan] if isinstance(plan, list) else self._batch(plan)

    def _batch(self, plan: BatchPlan) -> CandidateBatch:
        groups = self.groups[plan.indices]
        batch = CandidateBatch.of(groups, plan.totals, self.groups.attributes)
        if plan.others:
            batch = batch.beside(groups, self.groups[plan.others])
        return batch.as_padding() if plan.padding else batch


def as_it_is(found: Any) -> Any:
    """Return what was made as it is."""
    return found


class _Sent:
    """A tensor on its way from a worker."""

    def __init__(self, values: torch.Tensor) -> None:
        self.array = values.numpy()


def as_arrays(found: Any) -> Any:
    """Send a worker's batches through its pipe: tensors would each take an open file and room in /dev/shm."""
    return each(found, torch.Tensor, _Sent)


def as_tensors(found: Any) -> Any:
    """Return what the loader yields: a step where it planned one, else a batch, pinned where there is a GPU."""
    made = each(found, _Sent, lambda sent: torch.from_numpy(sent.array))
    if torch.cuda.is_available():  # torch's own pinning would make lists of tuples, and a call for each number in them
        made = each(made, torch.Tensor, pinned)
    return Step(made) if isinstance(made, list) else made


class BatchLoader:
    """Iterates over one epoch of steps, or of batches to evaluate; knows how many it has handed over, resumes there."""

    def __init__(self, order: Order, fingerprint: str, seed: int = 0) -> None:
        self.sampler, self.seed = order, seed  # Lightning calls the order's set_epoch
        num_workers = order.batching.num_workers
        self.batch_sampler = None
        self.fingerprint = fingerprint
        own = torch.Generator().manual_seed(derive(seed, "loader"))  # nothing is drawn from the global stream
        self._loader: DataLoader[Any] = DataLoader(
            Collated(order.groups),
            sampler=order,
            batch_size=None,
            collate_fn=as_arrays if num_workers else as_it_is,
            num_workers=num_workers,
            generator=own,
        )
        self._given = 0
        self._resume: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        done = 0
        if self._resume is not None:
            state, self._resume = self._resume, None
            if state["epoch"] == self.sampler.epoch:  # a checkpoint of a finished epoch names the one before
                done = self.sampler.start = state["batches"]
        self._given = done
        for batch in self._loader:
            self._given += 1
            yield as_tensors(batch)

    def state_dict(self) -> dict[str, Any]:
        """Return epoch, batches handed over, what decides micro-batches, and what must not change."""
        order = self.sampler
        cut = {"tokens": order.batching.tokens, "layout": order.layout.name, "world_size": order.share.world_size}
        return {"epoch": order.epoch, "batches": self._given, **cut, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches of a saved state. Raises ResumeError where the data or its division changed."""
        if "shards" in state:
            check_shards(state["shards"], None)
        check_same(state, self._identity())
        check_budget(state, self.sampler.batching.tokens, self.sampler.layout)
        check_processes(state, self.sampler.share.world_size)
        self._resume = dict(state)

    def _identity(self) -> dict[str, Any]:
        order = self.sampler
        if isinstance(order, StepOrder):  # its steps are the same for any number of processes
            cut = {"groups_per_step": order.step, "steps_per_epoch": len(order)}
        else:
            cut = {"world_size": order.share.world_size}
        return {"fingerprint": self.fingerprint, **cut, "seed": self.seed}


def check_same(state: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise ResumeError where something is another than in a checkpoint."""
    for key, now in identity.items():
        if state.get(key) != now:
            raise ResumeError(f"cannot resume: {key} was {state.get(key)!r} in the checkpoint and is {now!r} now")


def check_processes(state: Mapping[str, Any], now: int) -> None:
    """Warn of another number of processes than in a checkpoint."""
    if (before := state.get("world_size", now)) != now:
        rank_zero_warn(
            f"the checkpoint is of {before} processes and goes on with {now}: the steps are the same, the weights will "
            "be so up to rounding and what is drawn at random in training, such as dropout"
        )


def check_budget(state: Mapping[str, Any], tokens: int, layout: RowLayout) -> None:
    """Warn of another budget of tokens than in a checkpoint, or another layout, such as on another device."""
    for name, now in (("tokens", tokens), ("layout", layout.name)):
        if (before := state.get(name, now)) != now:
            setting = "data.batching.tokens" if name == "tokens" else "the layout of batches"
            rank_zero_warn(
                f"{setting} was {before} in the checkpoint and is {now} now: the steps are the same, the weights will "
                "be so up to rounding"
            )
