"""What `align check` says of a run before there are weights or cards: memory, time, and settings that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from align.cli.check_cards import COUNTS, spreads, told_cards
from align.data.data_module import PreferenceDataModule
from align.data.positions import Positions
from align.errors import ConfigError, ModelError
from align.models.held_short import SHORT
from align.records import RowLayout
from align.sizing.groups import TypicalGroup
from align.sizing.memory import Memory, Spread
from align.sizing.pass_cost import PassConditions
from align.sizing.sized import Sized
from align.training.base_module import AlignModule
from align.training.rollout_module import RolloutModule

BUDGET = 4096
"""What data.batching.tokens is where there are no data."""


RECOMPUTED = {
    False: "kept",
    True: "computed again in the backward pass",
    "selective": "of linear layers and attention kept",
}


@dataclass(frozen=True)
class Load:
    """What is to be computed."""

    groups: TypicalGroup
    longest: int
    step_groups: int
    budget: int
    positions: float = 0.0
    """Of all epochs; 0 where there are no data."""

    @classmethod
    def of(cls, module: AlignModule, data: PreferenceDataModule | None, epochs: int) -> Load:
        """Return that of some data, or of groups of a usual length where there are none."""
        if data is None:
            return cls(TypicalGroup(), TypicalGroup().tokens, module.step_groups, BUDGET)
        extents = data.groups["train"].extents
        candidates = max(round(float(np.mean(extents.candidates))), 1)
        responses = max(round(float(np.mean(data.groups["train"].response_tokens))), 1)
        prompt = max(round(float(np.mean(extents.tokens))) - candidates * responses, 1)
        positions = Positions.of(extents, RowLayout()).alone
        batching = data.batching
        groups = TypicalGroup(prompt, responses, candidates)
        step = batching.groups or module.step_groups
        return cls(groups, int(positions.max()), step, batching.tokens, float(positions.sum()) * max(epochs, 1))


SHARDED = ("ShardedStrategy", "ModelParallelStrategy")
"""Strategies that shard a model: ours, and the one of Lightning that it is of."""


@dataclass(frozen=True)
class Asked:
    """What the settings of a Trainer say of a run that is planned."""

    epochs: int
    mixed: bool
    sharded: bool
    prefetch: int = 1
    short: bool = False

    @classmethod
    def of(cls, trainer: Any) -> Asked:
        """Read them. Raises ConfigError for a precision whose memory is not known."""
        precision = str(trainer.get("precision") or "bf16-mixed")
        if precision not in ("bf16-mixed", "16-mixed", "32-true", "32"):
            raise ConfigError(f"--trainer.precision {precision}: its memory is not known: take bf16-mixed or 32-true")
        strategy = trainer.get("strategy")
        name = strategy if isinstance(strategy, str) else str((strategy or {}).get("class_path"))
        epochs = trainer.get("max_epochs")
        settings = {} if isinstance(strategy, str) else (strategy or {}).get("init_args") or {}
        prefetch = int(settings.get("prefetch", 1))
        return cls(max(epochs or 1, 1), "mixed" in precision, name.endswith(SHARDED), prefetch, precision == SHORT)


def memory_told(module: AlignModule, data: PreferenceDataModule | None, conditions: PassConditions) -> str:
    """Return one line on the memory of one device in its largest batch."""
    load = Load.of(module, data, 1)
    tokens = max(load.budget, load.longest)
    try:
        memory = Sized.of(module, load.groups, conditions, tokens).memory(tokens, Spread())
    except ModelError as error:
        return f"memory not known: {error}"
    named = {"activations": f"activations of {tokens} positions", "working": "logits or the largest block"}
    parts = ", ".join(f"{named.get(name, name)} {_size(size)}" for name, size in memory._asdict().items() if size)
    return f"memory about {_size(memory.total)} on one device: {parts}"


def _size(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def tell_plan(module: AlignModule, asked: Asked, load: Load) -> Iterator[str]:
    """Yield the memory of each GPU for 1 to 64 of them, and what cards it fits on."""
    conditions = PassConditions(module.backbone.layout, asked.mixed, prefetch=asked.prefetch, short=asked.short)
    sized = Sized.of(module, load.groups, conditions, max(load.budget, 2048))
    yield from _told_size(sized, load)
    tokens = max(load.budget, load.longest)
    yield f"{'GPUs':<18}" + "".join(f"{name:>14}" for name in (*Memory._fields, "peak"))
    for count in COUNTS:
        for spread in spreads(count, whole=sized.whole):
            memory = sized.memory(tokens, spread)
            figures = "".join(f"{size / 2**30:14.2f}" for size in (*memory, memory.total))
            yield f"{f'{count} {spread}' if count > 1 else '1':<18}{figures}"
    yield ""
    yield from told_cards(sized, tokens, load.positions, sharded=asked.sharded)


def _told_size(sized: Sized, load: Load) -> Iterator[str]:
    weights, backbone = sized.weights, sized.module.backbone
    share = 100 * weights.trained_parameters / weights.parameters
    yield f"{weights.parameters:,} parameters, {weights.trained_parameters:,} of them trained ({share:.2f} %)"
    again = RECOMPUTED[backbone.gradient_checkpointing]
    kept = sized.cost.kept
    yield (
        f"GiB of each GPU, {'bf16-mixed' if sized.conditions.mixed else '32-true'}, {sized.cost.layout} rows, "
        f"activations {again}: {kept.each / 2**10:.1f} KiB a position; batches of {load.budget} positions, "
        f"the longest group has {load.longest}"
    )
    if isinstance(sized.module, RolloutModule):
        yield "of training: what is drawn, and the time and memory that drawing takes, are not counted"
